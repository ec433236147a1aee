package leaftrain

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"leafserve"
	"leafserve/internal/atomicfile"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// Files of an encoder's folder, and the folder of a run beside them.
const (
	configFile  = "config.json"
	weightsFile = "model.safetensors"
	runFolder   = "run"
)

// writer marks the weights that WriteEncoder wrote, in their metadata.
const writerKey, writer = "written_by", "leafserve train"

// WriteEncoder stores an encoder in dir, in transformers' layout: the one in the
// folder source (textenc.Load) with the parameters' values, as float32 or, half,
// as float16. All else is carried over: config.json's other keys, and tensors
// that are no parameters, such as a CLIPModel's image tower, as they are stored.
//
// The folder may hold what WriteEncoder wrote there before, which is replaced one
// whole file after the other, and a run's own; else the error is Invalid and
// nothing has changed. A value that float16 cannot hold is an error that names
// its tensor.
func WriteEncoder(dir, source string, parameters []textenc.Parameter, half bool) error {
	ckpt, err := weights.Open(source)
	if err != nil {
		return err
	}
	dtype, torch := weights.F32, "float32"
	if half {
		dtype, torch = weights.F16, "float16"
	}
	config, err := encoderConfig(source, ckpt, torch)
	if err != nil {
		return err
	}
	if err := prepareFolder(dir); err != nil {
		return err
	}
	values := map[string]tensor.Tensor{}
	for _, p := range parameters {
		values[p.Name] = p.Value
	}
	err = atomicfile.Write(filepath.Join(dir, weightsFile), 0o644, func(w io.Writer) error {
		return ckpt.Rewrite(context.Background(), w, dtype, values, map[string]string{"format": "pt", writerKey: writer}) // transformers asks for the format
	})
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, configFile), 0o644, func(w io.Writer) error {
		_, err := w.Write(config)
		return err
	})
}

// encoderConfig is the source's config.json as that of what is written.
func encoderConfig(source string, ckpt *weights.Checkpoint, dtype string) ([]byte, error) {
	path := filepath.Join(source, configFile)
	var config map[string]json.RawMessage
	if err := weights.ReadJSON(path, &config); err != nil {
		return nil, err
	}
	projection, projects := ckpt.Lookup("text_projection.weight")
	_, sees := ckpt.Lookup("vision_model.post_layernorm.weight")
	if tower, ok := config["text_config"]; ok && !sees { // a CLIPModel's text tower alone
		config = nil
		if err := json.Unmarshal(tower, &config); err != nil {
			return nil, fmt.Errorf("%s: text_config: %w", path, err)
		}
	}
	if config == nil {
		return nil, fmt.Errorf("%s holds no JSON object", path)
	}
	class, kind := "CLIPTextModel", "clip_text_model"
	switch {
	case sees:
		class, kind = "CLIPModel", "clip"
	case projects:
		class = "CLIPTextModelWithProjection"
		config["projection_dim"] = fmt.Append(nil, projection.Shape[0]) // which a released text_config leaves out
	}
	key := "torch_dtype"
	if _, newer := config["dtype"]; newer {
		key = "dtype"
	}
	config["architectures"] = fmt.Appendf(nil, "[%q]", class)
	config["model_type"] = fmt.Appendf(nil, "%q", kind)
	config[key] = fmt.Appendf(nil, "%q", dtype)
	return json.MarshalIndent(config, "", "  ")
}

// prepareFolder makes dir, or proves that it may be written into.
func prepareFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ours := map[string]bool{runFolder: true}
	metadata, err := weights.ReadMetadata(filepath.Join(dir, weightsFile))
	if err == nil && metadata[writerKey] == writer {
		ours[configFile], ours[weightsFile] = true, true
	}
	for _, name := range []string{configFile, weightsFile} {
		if err := atomicfile.Sweep(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !ours[e.Name()] {
			return leafserve.Errorf(leafserve.Invalid, "%s holds %s, which no training run has written: choose another folder, or move that away", dir, e.Name())
		}
	}
	return nil
}
