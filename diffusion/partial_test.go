package diffusion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"leafserve/tensor"
)

// TestPartial: the network sees the rows of wanted items only, in both halves of
// guidance, and what they get is what they would get with the others beside them.
func TestPartial(t *testing.T) {
	noise := seeded(31)
	uncond, cond, x := noise(3, 5, 2), noise(3, 5, 2), noise(3, 4, 2, 2)
	scale, rescale := []float64{1, 7.5, 3}, []float64{0, 0.7, 1}
	calls := 0
	for _, tc := range []struct {
		wanted []bool
		rows   int // of one run, with guidance
	}{
		{[]bool{true, true, true}, 6},
		{[]bool{true, false, true}, 4},
		{[]bool{false, true, false}, 2},
		{[]bool{false, false, true}, 2},
	} {
		t.Run(fmt.Sprint(tc.wanted), func(t *testing.T) {
			seen := 0
			counting := func(ctx context.Context, sample tensor.Tensor, at float64, cond tensor.Tensor) (tensor.Tensor, error) {
				seen += sample.Shape[0]
				return promptNet(&calls)(ctx, sample, at, cond)
			}
			net := Partial(counting, func() []bool { return tc.wanted })
			for name, models := range map[string][2]Model{
				"guided":      {Guided(counting, uncond, cond, scale, rescale), Guided(net, uncond, cond, scale, rescale)},
				"conditioned": {Conditioned(counting, cond), Conditioned(net, cond)},
			} {
				want, err := models[0](context.Background(), x, 0.3)
				if err != nil {
					t.Fatal(err)
				}
				seen = 0
				got, err := models[1](context.Background(), x, 0.3)
				if err != nil {
					t.Fatal(err)
				}
				if rows := map[string]int{"guided": tc.rows, "conditioned": tc.rows / 2}[name]; seen != rows {
					t.Errorf("%s: the network ran on %d rows, want %d", name, seen, rows)
				}
				for i, wanted := range tc.wanted {
					row := want.Row(i)
					if !wanted {
						row = tensor.New(row.Shape...)
					}
					if !slices.Equal(got.Row(i).Data, row.Data) {
						t.Errorf("%s: item %d = %v, want %v", name, i, got.Row(i).Data, row.Data)
					}
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		calls = 0
		net := Partial(promptNet(&calls), func() []bool { return make([]bool, 3) })
		if _, err := net(context.Background(), x, 0.3, cond); !errors.Is(err, context.Canceled) || calls != 0 {
			t.Errorf("Partial = %v after %d runs, want context.Canceled and none", err, calls)
		}
	})
	t.Run("network gives too few rows", func(t *testing.T) {
		short := func(context.Context, tensor.Tensor, float64, tensor.Tensor) (tensor.Tensor, error) {
			return x.Row(0), nil
		}
		net := Partial(short, func() []bool { return []bool{true, true, false} })
		if _, err := net(context.Background(), x, 0.3, cond); err == nil {
			t.Error("Partial gives no error")
		}
	})
}

// TestPartialStaysFinite: with every sampler and prediction type, an item that
// leaves at any step keeps a finite latent, so that the others go on, to the same
// latents as without it.
func TestPartialStaysFinite(t *testing.T) {
	const steps = 12
	for _, name := range Names() {
		for _, prediction := range []string{"epsilon", "v_prediction", "sample"} {
			config, err := ParseConfig(name, map[string]any{"prediction_type": prediction, "beta_schedule": "scaled_linear", "skip_prk_steps": true}, nil)
			if err != nil {
				continue // a pair that the scheduler refuses
			}
			schedule, err := NewSchedule(name, config, steps)
			if err != nil {
				continue
			}
			t.Run(name+" "+prediction, func(t *testing.T) {
				noise, cond := seeded(41)(2, 4, 4, 4), seeded(42)(2, 5, 2)
				calls := 0
				sample := func(leaves int) tensor.Tensor {
					wanted := []bool{true, true}
					done := 0
					net := Partial(promptNet(&calls), func() []bool { wanted[1] = done < leaves; return slices.Clone(wanted) })
					fresh := seeded(43)
					x, err := Sample(context.Background(), schedule, Conditioned(net, cond), noise, Options{
						Noise: func(shape ...int) tensor.Tensor { return fresh(shape...) }, OnStep: func(step int, _ tensor.Tensor) { done = step },
					})
					if err != nil {
						t.Fatalf("left after step %d: %v", leaves, err)
					}
					return x
				}
				whole := sample(steps)
				for leaves := range steps {
					if got := sample(leaves); !slices.Equal(got.Row(0).Data, whole.Row(0).Data) {
						t.Errorf("left after step %d: the item that stays has another latent", leaves)
					}
				}
			})
		}
	}
}
