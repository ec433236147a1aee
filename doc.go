// Package leafserve is a text-to-image server whose text encoder survives typos,
// and the types that its parts share: [Request], [Job], [Event], [Error].
//
// # One prompt, from POST to PNG
//
// httpapi binds a [Request] and completes it from the model ([Request.Resolve]:
// from here on it names everything that decides the picture, the seed
// included). queue stores it in Redis as a [Job] and answers an id. A worker
// claims the job under a lease and calls the [Runner] it was given, which
// package pipeline makes:
//
//	ids    [B,T]       textenc cuts the prompt and the negative prompt into tokens
//	hidden [B,T,D]     CLIP's text tower, robust or standard, reads them
//	latent [B,4,h,w]   tensor draws noise, one generator a picture, equal to torch's
//	x0     [B,4,h,w]   diffusion asks the UNet [2B,4,h,w] once a step and walks down
//	image  [B,3,H,W]   the VAE decodes, H = factor·h
//	file               gallery writes a PNG with what made it, and keeps it
//
// The worker writes the terminal [State] once, and only then its event. Whoever
// listens on GET /jobs/{id}/events has followed it, up to five steps a second.
//
// # Where things are
//
// The networks are ONNX graphs built in Go from a checkpoint's own tensors:
// package onnx is the builder, textenc/clip.go, diffusion/unet.go and
// diffusion/vae.go are the networks, and package ort runs them. Nothing is
// converted: a graph points into the safetensors file. Package weights reads
// those files; weights/builtin carries the default model inside the program.
// Package diffusion also has the schedules and samplers, in plain Go.
// cmd/leafserve puts everything together.
//
// Read pipeline/generate.go first, then textenc/clip.go and
// diffusion/samplers.go.
//
// # Letters of shapes
//
//	B batch     T tokens (77)   D width     P projection   H heads
//	C channels  h w latent      H W pixels  N pixels in a row, h·w
//
// # What holds
//
// The same resolved request gives the same picture, alone or in a batch: on one
// machine's CPU to the bit; and the picture that diffusers gives to ±1 of 255. An
// acknowledged job ends in exactly one terminal state, as long as its Redis lives
// (the embedded one ends with the process). Errors are [Error] values whose
// [Kind] says what the caller can do.
package leafserve
