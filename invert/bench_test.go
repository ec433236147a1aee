package invert

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// BenchmarkInvert reports the time of a step a target, for some targets at once.
func BenchmarkInvert(b *testing.B) {
	v := openDefault(b, "text_encoder")
	target := embed(b, v, "a ghost on a yellow background")
	for _, n := range []int{1, 4, 8} {
		b.Run(fmt.Sprintf("%d targets", n), func(b *testing.B) {
			if _, err := v.Invert(context.Background(), slices.Repeat(target, n), steps(b.N)); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N*n), "ms/step")
		})
	}
}
