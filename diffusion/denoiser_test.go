package diffusion

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"leafserve/tensor"
)

// promptNet answers sample + the mean of its conditioning, and counts its calls.
func promptNet(calls *int) Network {
	return func(_ context.Context, sample tensor.Tensor, t float64, cond tensor.Tensor) (tensor.Tensor, error) {
		*calls++
		out := sample.Clone()
		for i := range sample.Shape[0] {
			mean := 0.0
			for _, v := range cond.Row(i).Data {
				mean += float64(v) / float64(len(cond.Row(i).Data))
			}
			for j := range out.Row(i).Data {
				out.Row(i).Data[j] += float32(mean * math.Cos(float64(j)+t))
			}
		}
		return out, nil
	}
}

func TestGuided(t *testing.T) {
	noise := seeded(11)
	uncond, cond, x := noise(3, 5, 2), noise(3, 5, 2), noise(3, 4, 2, 2)
	run := func(t *testing.T, m Model, x tensor.Tensor) tensor.Tensor {
		t.Helper()
		out, err := m(context.Background(), x, 0.3)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	calls := 0
	net := promptNet(&calls)
	without := run(t, Conditioned(net, cond), x)

	t.Run("scale 1 is no guidance", func(t *testing.T) {
		for _, scale := range []float64{0, 0.5, 1} {
			s := []float64{scale, scale, scale}
			if d := tensor.MaxAbsDiff(run(t, Guided(net, uncond, cond, s, []float64{0.7, 0, 1}), x), without); d != 0 {
				t.Errorf("scale %v is off by %g", scale, d)
			}
		}
	})
	t.Run("one run", func(t *testing.T) {
		calls = 0
		run(t, Guided(net, uncond, cond, []float64{7, 7, 7}, make([]float64, 3)), x)
		if calls != 1 {
			t.Errorf("%d runs, want 1", calls)
		}
	})
	t.Run("formula", func(t *testing.T) {
		bare := run(t, Conditioned(net, uncond), x)
		got := run(t, Guided(net, uncond, cond, []float64{7.5, 7.5, 7.5}, make([]float64, 3)), x)
		want := tensor.Lerp(1, bare, 7.5, tensor.Lerp(1, without, -1, bare))
		if d := tensor.MaxAbsDiff(got, want); d > 1e-5 {
			t.Errorf("off by %g", d)
		}
	})
	t.Run("batched is each alone", func(t *testing.T) {
		scale, rescale := []float64{1, 7.5, 3}, []float64{0, 0.7, 0}
		batch := run(t, Guided(net, uncond, cond, scale, rescale), x)
		for i := range 3 {
			alone := run(t, Guided(net, uncond.Row(i), cond.Row(i), scale[i:i+1], rescale[i:i+1]), x.Row(i))
			if d := tensor.MaxAbsDiff(batch.Row(i), alone); d != 0 {
				t.Errorf("item %d is off by %g", i, d)
			}
		}
	})
}

// TestGuideRescale: at rescale 1 the result has the deviation of the conditioned
// output, and in between it is mixed. 1, 2, 3, 4 deviate by 1.2909944 (n−1).
func TestGuideRescale(t *testing.T) {
	uncond := tensor.Tensor{Shape: []int{4}, Data: []float32{0, 0, 0, 0}}
	cond := tensor.Tensor{Shape: []int{4}, Data: []float32{1, 2, 3, 4}}
	if d := deviation(cond.Data); math.Abs(d-1.2909944487) > 1e-9 {
		t.Errorf("deviation = %v, want 1.2909944487", d)
	}
	for _, tc := range []struct {
		rescale float64
		want    []float32
	}{
		{0, []float32{5, 10, 15, 20}},
		{1, []float32{1, 2, 3, 4}},
		{0.5, []float32{3, 6, 9, 12}},
	} {
		got := guide(uncond, cond, 5, tc.rescale)
		if d := tensor.MaxAbsDiff(got, tensor.Tensor{Shape: []int{4}, Data: tc.want}); d > 1e-6 {
			t.Errorf("rescale %v = %v, want %v", tc.rescale, got.Data, tc.want)
		}
	}
	if got := guide(uncond, uncond, 5, 1); got.Data[0] != 0 {
		t.Errorf("rescaling a constant = %v, want 0", got.Data)
	}
}

func TestGuidedShapes(t *testing.T) {
	calls := 0
	x, cond := tensor.New(2, 4, 2, 2), tensor.New(2, 5, 3)
	for _, tc := range []struct {
		name           string
		uncond         tensor.Tensor
		scale, rescale []float64
	}{
		{"one scale", cond, []float64{2}, []float64{0, 0}},
		{"no rescale", cond, []float64{2, 2}, nil},
		{"uncond of one item", tensor.New(1, 5, 3), []float64{2, 2}, []float64{0, 0}},
		{"uncond of another width", tensor.New(2, 5, 4), []float64{2, 2}, []float64{0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Guided(promptNet(&calls), tc.uncond, cond, tc.scale, tc.rescale)(context.Background(), x, 1)
			if err == nil || !strings.Contains(err.Error(), "want one each") {
				t.Errorf("error = %v", err)
			}
		})
	}
	if calls != 0 {
		t.Errorf("the network ran %d times", calls)
	}
}

// TestDenoiser: a network that predicts perfectly gives x0 back, whatever it
// predicts, and sees a latent of unit variance.
func TestDenoiser(t *testing.T) {
	x0, noise := seeded(21)(1, 4, 2, 2), seeded(22)(1, 4, 2, 2)
	for _, sigma := range []float64{0.03, 1, 14.6} {
		norm := math.Sqrt(1 + sigma*sigma)
		x := tensor.Lerp(1, x0, sigma, noise)
		for prediction, out := range map[string]tensor.Tensor{
			"epsilon":      noise,
			"v_prediction": tensor.Lerp(1/norm, noise, -sigma/norm, x0),
			"sample":       x0,
		} {
			t.Run(fmt.Sprint(prediction, sigma), func(t *testing.T) {
				s := &Schedule{Config: Config{PredictionType: prediction}, train: []float64{0.01, 20}}
				model := func(_ context.Context, sample tensor.Tensor, _ float64) (tensor.Tensor, error) {
					if d := tensor.MaxAbsDiff(sample, tensor.Scale(1/norm, x)); d > 1e-6 {
						t.Errorf("the network's input is off by %g", d)
					}
					return out, nil
				}
				got, err := s.Denoiser(model)(context.Background(), x, sigma)
				if err != nil {
					t.Fatal(err)
				}
				if d := tensor.MaxAbsDiff(got, x0); d > 1e-5 {
					t.Errorf("x0 is off by %g", d)
				}
			})
		}
	}
}

func TestClip(t *testing.T) {
	x0 := tensor.Tensor{Shape: []int{2, 1, 1, 5}, Data: []float32{0, 1, -2, 3, -4, 0, 0.1, 0.2, 0.3, 0.4}}
	for _, tc := range []struct {
		name string
		c    Config
		want []float32
	}{
		{"off", Config{}, x0.Data},
		{"range", Config{ClipSample: true, ClipSampleRange: 2.5}, []float32{0, 1, -2, 2.5, -2.5, 0, 0.1, 0.2, 0.3, 0.4}},
		{"median, at least 1", Config{Thresholding: true, ThresholdingRatio: 0.5, SampleMaxValue: 9}, []float32{0, 0.5, -1, 1, -1, 0, 0.1, 0.2, 0.3, 0.4}},
		{"between ranks", Config{Thresholding: true, ThresholdingRatio: 0.625, SampleMaxValue: 9}, []float32{0, 0.4, -0.8, 1, -1, 0, 0.1, 0.2, 0.3, 0.4}},
		{"largest threshold", Config{Thresholding: true, ThresholdingRatio: 1, SampleMaxValue: 2}, []float32{0, 0.5, -1, 1, -1, 0, 0.1, 0.2, 0.3, 0.4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := (&Schedule{Config: tc.c}).clip(x0)
			if d := tensor.MaxAbsDiff(got, tensor.Tensor{Shape: x0.Shape, Data: tc.want}); d > 1e-6 {
				t.Errorf("clip = %v, want %v", got.Data, tc.want)
			}
		})
	}
}
