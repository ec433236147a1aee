package diffusion

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// UNet is a loaded denoising network. It is safe for concurrent use.
type UNet struct {
	Config  UNetConfig
	Hash    string // SHA-256 of the weights, hex
	session *ort.Session
}

// valuesTogether is how much of a batch of latents a core denoises together: 8
// of 16×16. There a row of the built-in model takes 7.6 ms beside 8.8 ms by
// itself; a latent of 64×64 alone has work enough for a core, and fills more memory.
const valuesTogether = 8 * 4 * 16 * 16

// LoadUNet reads a UNet2DConditionModel's folder.
func LoadUNet(rt *ort.Runtime, dir string) (*UNet, error) {
	config, err := readUNetConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	model, err := unetGraph(config, ckpt)
	if err != nil {
		return nil, err
	}
	u := &UNet{Config: config}
	var parts errgroup.Group
	parts.Go(func() (err error) { u.session, err = rt.NewRowSession(model, valuesTogether); return })
	parts.Go(func() (err error) { u.Hash, err = ckpt.Hash(); return })
	if err := parts.Wait(); err != nil {
		if u.session != nil {
			u.session.Close()
		}
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return u, nil
}

// Predict is the network alone: sample [B,In,h,w] at timestep t, conditioned on
// cond [B,T,D], → prediction [B,Out,h,w]. It is a Network.
func (u *UNet) Predict(ctx context.Context, sample tensor.Tensor, t float64, cond tensor.Tensor) (tensor.Tensor, error) {
	timestep := tensor.Tensor{Shape: []int{1}, Data: []float32{float32(t)}}
	out, err := u.session.Run(ctx, ort.Floats(sample), ort.Floats(timestep), ort.Floats(cond))
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("unet: %w", err)
	}
	return out[0], nil
}

// Close frees the weights; no call may be running.
func (u *UNet) Close() error { return u.session.Close() }

// VAE is a loaded AutoencoderKL. Its encoder is checked with the decoder and
// loaded when first used. It is safe for concurrent use.
type VAE struct {
	Config  VAEConfig
	decoder *ort.Session
	loading sync.Mutex   // guards encoder
	encoder *ort.Session // nil until first used
	load    func() (*ort.Session, error)
}

// LoadVAE reads an AutoencoderKL's folder.
func LoadVAE(rt *ort.Runtime, dir string) (*VAE, error) {
	config, err := readVAEConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	decoder, err := vaeDecoderGraph(config, ckpt)
	if err != nil {
		return nil, err
	}
	encoder, err := vaeEncoderGraph(config, ckpt)
	if err != nil {
		return nil, err
	}
	session, err := rt.NewSession(decoder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	load := func() (*ort.Session, error) { return rt.NewSession(encoder) }
	return &VAE{Config: config, decoder: session, load: load}, nil
}

// Decode turns a latent of the UNet's scale [B,Latent,h,w] into pictures
// [B,3,h·Factor,w·Factor], about −1…1. They are decoded one after another: the
// activations of one 512-pixel picture already fill a gigabyte.
func (v *VAE) Decode(ctx context.Context, latent tensor.Tensor) (tensor.Tensor, error) {
	if err := latent.Check("latent", -1, v.Config.Latent, -1, -1); err != nil {
		return tensor.Tensor{}, err
	}
	z := tensor.Scale(1/v.Config.ScalingFactor, latent)
	pictures := make([]tensor.Tensor, z.Shape[0])
	for i := range pictures {
		out, err := v.decoder.Run(ctx, ort.Floats(z.Row(i)))
		if err != nil {
			return tensor.Tensor{}, fmt.Errorf("vae decoder: %w", err)
		}
		pictures[i] = out[0]
	}
	return tensor.Concat(pictures...), nil
}

// Moments gives mean and log variance [B,2·Latent,H/Factor,W/Factor] of the
// latent of pictures [B,3,H,W] in −1…1, before the scaling factor.
func (v *VAE) Moments(ctx context.Context, image tensor.Tensor) (tensor.Tensor, error) {
	encoder, err := v.encoderSession()
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("vae encoder: %w", err)
	}
	out, err := encoder.Run(ctx, ort.Floats(image))
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("vae encoder: %w", err)
	}
	return out[0], nil
}

// encoderSession loads the encoder if no call did before.
func (v *VAE) encoderSession() (*ort.Session, error) {
	v.loading.Lock()
	defer v.loading.Unlock()
	if v.encoder == nil {
		session, err := v.load()
		if err != nil {
			return nil, err
		}
		v.encoder = session
	}
	return v.encoder, nil
}

// Close frees the weights; no call may be running.
func (v *VAE) Close() error {
	err := v.decoder.Close()
	if v.encoder != nil {
		err = errors.Join(err, v.encoder.Close())
	}
	return err
}

// Layout is what a model folder says about itself, read without loading weights.
type Layout struct {
	UNet      UNetConfig
	VAE       VAEConfig
	Scheduler map[string]any // scheduler_config.json
}

// ReadLayout reads the configs of a folder in diffusers' layout.
func ReadLayout(dir string) (l Layout, err error) {
	if l.UNet, err = readUNetConfig(filepath.Join(dir, "unet")); err != nil {
		return l, err
	}
	if l.VAE, err = readVAEConfig(filepath.Join(dir, "vae")); err != nil {
		return l, err
	}
	path := filepath.Join(dir, "scheduler", "scheduler_config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	if l.Scheduler, err = DecodeConfig(raw); err != nil {
		return l, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}
