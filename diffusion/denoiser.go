package diffusion

import (
	"context"
	"fmt"
	"math"
	"slices"

	"leafserve/tensor"
)

// Denoiser gives the clean latent x0 that the network sees in x at noise level
// sigma, where x = x0 + sigma·noise. Both are [B,C,h,w].
type Denoiser func(ctx context.Context, x tensor.Tensor, sigma float64) (tensor.Tensor, error)

// Network is the UNet itself: sample [B,C,h,w] in the variance-preserving scale,
// timestep t in 0…T−1 (fractions are allowed), cond [B,T,D] → what it was
// trained to predict (noise, v or x0), of sample's shape.
type Network func(ctx context.Context, sample tensor.Tensor, t float64, cond tensor.Tensor) (tensor.Tensor, error)

// Model is a Network with its conditioning and guidance bound.
type Model func(ctx context.Context, sample tensor.Tensor, t float64) (tensor.Tensor, error)

// Conditioned is net on cond [B,T,D] without guidance: one run on B.
func Conditioned(net Network, cond tensor.Tensor) Model {
	return func(ctx context.Context, sample tensor.Tensor, t float64) (tensor.Tensor, error) {
		return net(ctx, sample, t, cond)
	}
}

// Partial is net for a batch that items may leave: before each run it asks which
// of them are still wanted, one value an item, and runs net on their rows alone.
// Row i of sample and of cond is of item i modulo their number, as Guided lays
// them out. The rows of the others are 0 in its output, which every sampler goes
// on with. When no item is wanted it fails with context.Canceled.
func Partial(net Network, wanted func() []bool) Network {
	return func(ctx context.Context, sample tensor.Tensor, t float64, cond tensor.Tensor) (tensor.Tensor, error) {
		items := wanted()
		var rows []int
		for i := range sample.Shape[0] {
			if items[i%len(items)] {
				rows = append(rows, i)
			}
		}
		switch len(rows) {
		case 0:
			return sample, context.Canceled
		case sample.Shape[0]:
			return net(ctx, sample, t, cond)
		}
		pred, err := net(ctx, pick(sample, rows), t, pick(cond, rows))
		if err != nil {
			return pred, err
		}
		if err := pred.Check("network output", append([]int{len(rows)}, sample.Shape[1:]...)...); err != nil {
			return pred, err
		}
		out := tensor.New(sample.Shape...)
		for i, row := range rows {
			copy(out.Row(row).Data, pred.Row(i).Data)
		}
		return out, nil
	}
}

// pick is some rows of t.
func pick(t tensor.Tensor, rows []int) tensor.Tensor {
	picked := make([]tensor.Tensor, len(rows))
	for i, row := range rows {
		picked[i] = t.Row(row)
	}
	return tensor.Concat(picked...)
}

// Guided is classifier-free guidance, out = uncond + scale·(cond − uncond) (Ho
// and Salimans 2022, eq. 6), from one run of net on [uncond; cond], each
// [B,T,D]. scale and rescale have a value an item. An item with scale ≤ 1 gets
// its conditioned output as it is. rescale in 0…1 mixes in the output brought to
// the standard deviation of the conditioned one (Lin et al. 2023, §3.4).
func Guided(net Network, uncond, cond tensor.Tensor, scale, rescale []float64) Model {
	both := tensor.Concat(uncond, cond) // [2B,T,D]
	return func(ctx context.Context, sample tensor.Tensor, t float64) (tensor.Tensor, error) {
		b := len(scale)
		if sample.Shape[0] != b || len(rescale) != b || both.Shape[0] != 2*b || !slices.Equal(uncond.Shape, cond.Shape) {
			return sample, fmt.Errorf("guidance of %d latents with %d scales, %d rescales, conditioning %v and %v: want one each",
				sample.Shape[0], b, len(rescale), uncond.Shape, cond.Shape)
		}
		pred, err := net(ctx, tensor.Concat(sample, sample), t, both) // [2B,C,h,w]
		if err != nil {
			return pred, err
		}
		if err := pred.Check("network output", append([]int{2 * b}, sample.Shape[1:]...)...); err != nil {
			return pred, err
		}
		out := tensor.New(sample.Shape...) // [B,C,h,w]
		for i := range b {
			copy(out.Row(i).Data, guide(pred.Row(i), pred.Row(b+i), scale[i], rescale[i]).Data)
		}
		return out, nil
	}
}

// guide joins one item's two predictions.
func guide(uncond, cond tensor.Tensor, scale, rescale float64) tensor.Tensor {
	if scale <= 1 {
		return cond
	}
	out := tensor.Lerp(1-scale, uncond, scale, cond)
	if std := deviation(out.Data); rescale > 0 && std > 0 {
		out = tensor.Scale(rescale*deviation(cond.Data)/std+1-rescale, out)
	}
	return out
}

// deviation is the standard deviation with n−1 below, as torch's std.
func deviation(values []float32) float64 {
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += float64(v) / float64(len(values))
	}
	for _, v := range values {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	return math.Sqrt(squares / float64(len(values)-1))
}

// Denoiser makes m answer x0 for x at any noise level: it scales the input to
// the variance that the network knows and turns its noise, v (Salimans and Ho
// 2022, §4) or x0 prediction into x0.
func (s *Schedule) Denoiser(m Model) Denoiser {
	return func(ctx context.Context, x tensor.Tensor, sigma float64) (tensor.Tensor, error) {
		norm := math.Sqrt(1 + sigma*sigma)
		pred, err := m(ctx, tensor.Scale(1/norm, x), s.Timestep(sigma))
		if err != nil {
			return x, err
		}
		if err := pred.Check("network output", x.Shape...); err != nil {
			return x, err
		}
		return s.estimate(x, pred, sigma), nil
	}
}

// estimate is the x0 that a network output stands for in x at noise level sigma.
func (s *Schedule) estimate(x, pred tensor.Tensor, sigma float64) tensor.Tensor {
	norm := math.Sqrt(1 + sigma*sigma)
	switch s.Config.PredictionType {
	case "epsilon":
		return tensor.Lerp(1, x, -sigma, pred)
	case "v_prediction":
		return tensor.Lerp(1/(norm*norm), x, -sigma/norm, pred)
	}
	return pred // sample
}

// prediction is the inverse: the network output that stands for x0.
func (s *Schedule) prediction(x, x0 tensor.Tensor, sigma float64) tensor.Tensor {
	norm := math.Sqrt(1 + sigma*sigma)
	switch s.Config.PredictionType {
	case "epsilon":
		return slope(x, x0, sigma)
	case "v_prediction":
		return tensor.Lerp(1/(norm*sigma), x, -norm/sigma, x0)
	}
	return x0 // sample
}

// clip limits x0 [B,C,h,w] where the configuration asks for it: to a range, or
// by dynamic thresholding (Saharia et al. 2022, §2.3), each item by itself.
func (s *Schedule) clip(x0 tensor.Tensor) tensor.Tensor {
	c := s.Config
	if !c.Thresholding && !c.ClipSample {
		return x0
	}
	out := x0.Clone()
	for i := range x0.Shape[0] {
		item := out.Row(i).Data
		limit, scale := c.ClipSampleRange, 1.0
		if c.Thresholding {
			limit = min(max(quantileAbs(item, c.ThresholdingRatio), 1), c.SampleMaxValue)
			scale = limit
		}
		for j, v := range item {
			item[j] = float32(min(max(float64(v), -limit), limit) / scale)
		}
	}
	return out
}

// quantileAbs is the q-quantile of |values|, linear between neighbours.
func quantileAbs(values []float32, q float64) float64 {
	sorted := make([]float64, len(values))
	for i, v := range values {
		sorted[i] = math.Abs(float64(v))
	}
	slices.Sort(sorted)
	return interpolate(sorted, q*float64(len(sorted)-1))
}
