package tensor

import (
	"fmt"
	"slices"
	"strings"
)

// Generator draws standard normal noise. Each draw continues where the last
// one stopped. It is not safe for concurrent use.
type Generator interface {
	// Randn draws a tensor of the given shape. How a tensor is split into draws
	// matters: two draws of n values are not one of 2n.
	Randn(shape ...int) Tensor
}

var generators = map[string]func(seed uint64) Generator{
	"torch-cpu":      func(seed uint64) Generator { return newTorchCPU(seed) },
	"torch-cpu-fp16": func(seed uint64) Generator { return torchCPUHalf{newTorchCPU(seed)} },
	"philox":         func(seed uint64) Generator { return &philox{seed: seed} },
}

// Generators lists the names that NewGenerator takes, sorted.
func Generators() []string {
	names := make([]string, 0, len(generators))
	for name := range generators {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewGenerator starts a noise source:
//
//   - "torch-cpu": to the bit torch.randn with torch.Generator("cpu").manual_seed(seed)
//     in float32, on a machine with AVX2. Only the low 32 bits of the seed count.
//   - "torch-cpu-fp16": the same with dtype float16, which is other noise, not
//     the same noise rounded. The values are float16 numbers.
//   - "philox": what A1111 calls "NV"; all 64 bits of the seed count.
//
// The error names what there is.
func NewGenerator(name string, seed uint64) (Generator, error) {
	start, ok := generators[name]
	if !ok {
		return nil, fmt.Errorf("there is no noise source %q, choose one of: %s", name, strings.Join(Generators(), ", "))
	}
	return start(seed), nil
}

// RandnEach draws one row from each generator in turn and stacks them, as
// diffusers' randn_tensor does with a list of generators. shape is that of the
// result: shape[0] is len(gens), and each row is a draw of [1, shape[1:]...].
func RandnEach(gens []Generator, shape ...int) Tensor {
	row := append([]int{1}, shape[1:]...)
	rows := make([]Tensor, len(gens))
	for i, g := range gens {
		rows[i] = g.Randn(row...)
	}
	return Concat(rows...)
}
