package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// loadEncoders loads the encoders of a folder for a test.
func loadEncoders(t *testing.T, dir string) Encoders {
	t.Helper()
	e, err := LoadEncoders(leaftest.Runtime(t), describe(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// shapes writes name and shape of each tensor, sorted.
func shapes(tensors map[string]tensor.Tensor) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		out = append(out, fmt.Sprint(name, tensors[name].Shape))
	}
	return strings.Join(out, " ")
}

func TestEncodersEncode(t *testing.T) {
	builtin, plain := loadEncoders(t, leaftest.DefaultModel()), loadEncoders(t, leaftest.Model(t, "tiny-sd15"))
	p := builtin["robust"].Config.Projection
	prompts := []string{"a red apple", "", "a red apple"}
	for _, tc := range []struct {
		name    string
		e       Encoders
		encoder string
		outputs []string
		want    string // shapes
	}{
		{"all that there is", builtin, "robust", nil, fmt.Sprintf("hidden[3 77 192] pooled[3 192] projected[3 %d]", p)},
		{"all without a projection", plain, "standard", nil, "hidden[3 77 16] pooled[3 16]"},
		{"one", builtin, "standard", []string{"pooled"}, "pooled[3 192]"},
		{"two", builtin, "standard", []string{"projected", "hidden"}, fmt.Sprintf("hidden[3 77 192] projected[3 %d]", p)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := tc.e.Encode(context.Background(), tc.encoder, prompts, tc.outputs, 0)
			if err != nil || shapes(out) != tc.want {
				t.Fatalf("Encode = %s, %v, want %s", shapes(out), err, tc.want)
			}
			for name, x := range out {
				leaftest.Close(t, name+" of the same prompt", x.Row(2), x.Row(0), 0)
				if tensor.MaxAbsDiff(x.Row(0), x.Row(1)) == 0 {
					t.Errorf("%s is the same for different prompts", name)
				}
			}
		})
	}
}

func TestEncodersEncodeErrors(t *testing.T) {
	e := loadEncoders(t, leaftest.Model(t, "tiny-sd15"))
	for _, tc := range []struct {
		name, encoder string
		outputs       []string
		param, says   string
	}{
		{"unknown encoder", "robust", nil, "encoder", `there is no encoder "robust"`},
		{"no projection", "standard", []string{"hidden", "projected"}, "outputs", "has no projection"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := e.Encode(context.Background(), tc.encoder, []string{"a cat"}, tc.outputs, 0)
			var invalid *leafserve.Error
			if !errors.As(err, &invalid) || invalid.Kind != leafserve.Invalid || invalid.Param != tc.param || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Encode = %v, want an Invalid error about %s that says %q", err, tc.param, tc.says)
			}
		})
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Encode(ended, "standard", []string{"not in the cache"}, nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Encode = %v, want context.Canceled", err)
	}
}
