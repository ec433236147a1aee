package diffusion

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// TestRowsTogether: what the network makes of a row of a batch is to the bit
// what it makes of that row alone, however many rows a core takes together.
func TestRowsTogether(t *testing.T) {
	for name, dir := range map[string]string{
		"built-in": leaftest.DefaultModel(), "tiny-sd15": leaftest.Model(t, "tiny-sd15"), "tiny-sd21": leaftest.Model(t, "tiny-sd21"),
	} {
		u, err := LoadUNet(leaftest.Runtime(t), filepath.Join(dir, "unet"))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for _, size := range [][2]int{{1, 1}, {2, 2}, {4, 8}, {16, 16}} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				const rows = 20
				noise := seeded(5)
				x, cond := noise(rows, u.Config.In, size[0], size[1]), noise(rows, 77, u.Config.Context)
				run := func(x, cond tensor.Tensor) tensor.Tensor {
					out, err := u.Predict(context.Background(), x, 321, cond)
					if err != nil {
						t.Fatal(err)
					}
					return out
				}
				together := run(x, cond)
				for i := range rows {
					leaftest.Close(t, fmt.Sprintf("row %d", i), together.Row(i), run(x.Row(i), cond.Row(i)), 0)
				}
			})
		}
	}
}
