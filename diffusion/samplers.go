package diffusion

import (
	"context"
	"fmt"
	"math"

	"leafserve"
	"leafserve/tensor"
)

// Options is what a run needs beside its schedule.
type Options struct {
	Eta    float64                          // DDIM's η in 0…1; the other samplers have none
	Noise  func(shape ...int) tensor.Tensor // unit noise; called once for each draw that diffusers makes
	OnStep func(step int, x0 tensor.Tensor) // after each step (from 1), with its estimate [B,C,h,w]; may be nil
}

// sampler walks x down s.Sigmas and returns it at the last of them. x is
// [B,C,h,w] with x = x0 + σ·noise at s.Sigmas[0]; it is not written to. Errors
// are denoise's, with the step, or say that x is not finite.
type sampler func(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error)

// Sample makes a latent from unit noise [B,C,h,w] with m. The result is in
// diffusers' scale, before the division by the VAE's scaling factor. Errors name
// the scheduler and the step; a latent that is not finite is Invalid.
func Sample(ctx context.Context, s *Schedule, m Model, noise tensor.Tensor, opts Options) (tensor.Tensor, error) {
	if err := noise.Check("noise", -1, -1, -1, -1); err != nil {
		return noise, err
	}
	x := tensor.Scale(1/s.vpScale(s.Sigmas[0]), s.Start(noise))
	x, err := schedulers[s.Name].sample(ctx, s, s.Denoiser(m), x, opts)
	if err != nil {
		return x, fmt.Errorf("%s %w", s.Name, err)
	}
	return tensor.Scale(s.vpScale(s.Sigmas[len(s.Timesteps)]), x), nil
}

// ddim steps by x ← x0 + σ_down·ε + σ_up·noise with ε = (x−x0)/σ (Song et al.
// 2021, eq. 12, written for x = x0 + σ·noise). η = 0 makes it Euler's method for
// the probability-flow ODE, η = 1 ancestral sampling.
func ddim(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	for i, sigma := range s.Sigmas[:len(s.Timesteps)] {
		x0, err := denoise(ctx, x, sigma)
		if err != nil {
			return x, s.failed(i, err)
		}
		eps := slope(x, x0, sigma) // of x0 before it is clipped
		x0 = s.clip(x0)
		down, up := ancestral(sigma, s.next[i], opts.Eta)
		x = tensor.Lerp(1, x0, down, eps)
		if opts.Eta > 0 {
			x = tensor.Lerp(1, x, up, opts.Noise(x.Shape...))
		}
		x = s.reread(x, s.next[i], s.Sigmas[i+1])
		if err := s.finish(i, x, x0, opts); err != nil {
			return x, err
		}
	}
	return x, nil
}

// reread takes x at noise level was for one at level now, as diffusers does
// where a step ends at another level than the next one starts at: its latent
// stays, which is x in another scale.
func (s *Schedule) reread(x tensor.Tensor, was, now float64) tensor.Tensor {
	if was == now {
		return x
	}
	return tensor.Scale(s.vpScale(was)/s.vpScale(now), x)
}

// ancestral splits the step from noise level from to level to into a
// deterministic part that ends at down and fresh noise of deviation up, with
// down² + up² = to² (Song et al. 2021, eq. 16).
func ancestral(from, to, eta float64) (down, up float64) {
	up = eta * to * math.Sqrt(max(0, 1-(to/from)*(to/from)))
	return math.Sqrt(max(0, to*to-up*up)), up
}

// slope is dx/dσ = (x − x0)/σ, the noise that the network sees in x (Karras et
// al. 2022, eq. 3 and Alg. 1).
func slope(x, x0 tensor.Tensor, sigma float64) tensor.Tensor {
	return tensor.Lerp(1/sigma, x, -1/sigma, x0)
}

// euler takes first-order steps of the probability-flow ODE (Karras et al.
// 2022, Alg. 2 without churn): DDIM with η = 0.
func euler(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	opts.Eta = 0
	return ddim(ctx, s, denoise, x, opts)
}

// eulerAncestral is DDIM with η = 1: as much fresh noise as DDPM adds (Song et
// al. 2021, §4.1).
func eulerAncestral(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	opts.Eta = 1
	return ddim(ctx, s, denoise, x, opts)
}

// heun corrects each Euler step with the slope at its end, but for a step to
// noise 0 (Karras et al. 2022, Alg. 1 without churn).
func heun(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	for i, sigma := range s.Sigmas[:len(s.Timesteps)] {
		x0, err := denoise(ctx, x, sigma)
		if err != nil {
			return x, s.failed(i, err)
		}
		x0 = s.clip(x0)
		to := s.Sigmas[i+1]
		d := slope(x, x0, sigma)
		end := tensor.Lerp(1, x, to-sigma, d)
		if to > 0 {
			end0, err := denoise(ctx, end, to)
			if err != nil {
				return x, s.failed(i, err)
			}
			mean := tensor.Lerp(0.5, d, 0.5, slope(end, s.clip(end0), to))
			end = tensor.Lerp(1, x, to-sigma, mean)
		}
		x = end
		if err := s.finish(i, x, x0, opts); err != nil {
			return x, err
		}
	}
	return x, nil
}

// lcm jumps to the consistency function's x0 and noises it to the next level
// (Luo et al. 2023, Alg. 3; boundary condition of Song et al. 2023, App. C).
func lcm(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	const data = 0.5 // σ_data
	for i, sigma := range s.Sigmas[:len(s.Timesteps)] {
		x0, err := denoise(ctx, x, sigma)
		if err != nil {
			return x, s.failed(i, err)
		}
		t := s.Timesteps[i] * s.Config.TimestepScaling
		skip, out := data*data/(t*t+data*data), t/math.Hypot(t, data)
		x0 = tensor.Lerp(skip*s.vpScale(sigma), x, out, s.clip(x0))
		x = x0
		if i+1 < len(s.Timesteps) {
			x = tensor.Lerp(1, x0, s.Sigmas[i+1], opts.Noise(x.Shape...))
		}
		if err := s.finish(i, x, x0, opts); err != nil {
			return x, err
		}
	}
	return x, nil
}

// failed adds the step to an error.
func (s *Schedule) failed(i int, err error) error {
	return fmt.Errorf("step %d of %d: %w", i+1, len(s.Timesteps), err)
}

// finish ends step i: it refuses an x that is not finite and reports the step.
func (s *Schedule) finish(i int, x, x0 tensor.Tensor, opts Options) error {
	for _, v := range x.Data {
		if v-v != 0 { // NaN or ±Inf
			return s.failed(i, leafserve.Errorf(leafserve.Invalid,
				"the latent is no longer finite: lower guidance_scale, or take another scheduler or more steps"))
		}
	}
	if opts.OnStep != nil {
		opts.OnStep(i+1, x0)
	}
	return nil
}
