package ort

import (
	"fmt"
	"testing"
)

func TestParts(t *testing.T) {
	for _, tc := range []struct{ batch, cores, most, want int }{
		{2, 2, 1, 2},
		{2, 2, 8, 2},  // a row for each core before any has two
		{3, 2, 8, 2},  // 1 and 2
		{5, 2, 1, 5},  // one after the other
		{16, 2, 8, 2}, // 8 each
		{18, 2, 8, 4}, // 4, 5, 4, 5 and not 8, 8, 2
		{8, 16, 8, 8}, // cores without a row
		{40, 1, 8, 5},
	} {
		t.Run(fmt.Sprintf("%d rows, %d cores, at most %d", tc.batch, tc.cores, tc.most), func(t *testing.T) {
			if got := parts(tc.batch, tc.cores, tc.most); got != tc.want {
				t.Errorf("parts = %d, want %d", got, tc.want)
			}
		})
	}
}
