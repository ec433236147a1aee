package pipeline_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/pipeline"
)

// tensorBytes is what a safetensors file holds after its header.
func tensorBytes(t *testing.T, path string) int64 {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(raw)) - 8 - int64(binary.LittleEndian.Uint64(raw))
}

func TestWeightBytes(t *testing.T) {
	dir := leaftest.Model(t, "tiny-sd15")
	f, err := pipeline.Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.WeightBytes()
	if err != nil {
		t.Fatal(err)
	}
	for part, file := range map[string]string{
		"unet": "unet/diffusion_pytorch_model.safetensors", "vae": "vae/diffusion_pytorch_model.safetensors",
		"encoder/standard": "text_encoder/model.safetensors",
	} {
		if want := tensorBytes(t, filepath.Join(dir, file)); got[part] != want {
			t.Errorf("%s has %d bytes, want %d", part, got[part], want)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "vae")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WeightBytes(); err == nil {
		t.Error("no error for a part without weights")
	}
}
