package onnx

// Layers put several ops together and take their weights, by torch's names,
// from the checkpoint: prefix.weight and prefix.bias.

// Linear is x·Wᵀ + b over the last axis: [..., in] → [..., out].
func (g *Graph) Linear(prefix string, x Value, out int) Value {
	return g.Add(g.LinearBare(prefix, x, out), g.Weight(prefix+".bias", out))
}

// LinearBare is Linear without a bias.
func (g *Graph) LinearBare(prefix string, x Value, out int) Value {
	in := x.Shape[len(x.Shape)-1]
	return g.MatMul(x, g.Transpose(g.Weight(prefix+".weight", out, in), 1, 0))
}

// LayerNorm normalises the last axis (Ba et al. 2016).
func (g *Graph) LayerNorm(prefix string, x Value, epsilon float64) Value {
	d := x.Shape[len(x.Shape)-1]
	in := []Value{x, g.Weight(prefix+".weight", d), g.Weight(prefix+".bias", d)}
	return g.add("LayerNormalization", x.Type, x.Shape, in, Attr{"axis", -1}, Attr{"epsilon", float32(epsilon)})
}

// GroupNorm normalises [B,C,h,w] in groups of channels (Wu & He 2018). The
// runtime's InstanceNormalization over [B,G,…] does the statistics.
func (g *Graph) GroupNorm(prefix string, x Value, groups int, epsilon float64) Value {
	c := x.Shape[1]
	if groups < 1 || c%groups != 0 {
		g.Problem("%s: %d channels do not divide into %d groups", prefix, c, groups)
		return x
	}
	ones := make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y := g.ReshapeKeep(x, 0, groups, Any) // [B,G,C/G·h·w]
	y = g.InstanceNorm(y, g.Floats(ones, groups), g.Floats(make([]float32, groups), groups), float32(epsilon))
	y = g.ReshapeLike(y, x) // [B,C,h,w]
	y = g.Mul(y, g.Reshape(g.Weight(prefix+".weight", c), c, 1, 1))
	return g.Add(y, g.Reshape(g.Weight(prefix+".bias", c), c, 1, 1))
}

// Conv is a 2-D convolution with a square kernel: [B,in,h,w] → [B,out,h',w'].
func (g *Graph) Conv(prefix string, x Value, out, kernel, stride, padding int) Value {
	return g.conv(prefix, x, out, kernel, stride, padding, g.Weight(prefix+".bias", out))
}

// ConvBare is Conv without padding and without a bias.
func (g *Graph) ConvBare(prefix string, x Value, out, kernel, stride int) Value {
	return g.conv(prefix, x, out, kernel, stride, 0)
}

func (g *Graph) conv(prefix string, x Value, out, kernel, stride, padding int, bias ...Value) Value {
	in := append([]Value{x, g.Weight(prefix+".weight", out, x.Shape[1], kernel, kernel)}, bias...)
	shape := []int{x.Shape[0], out, Any, Any}
	for i := 2; i < 4; i++ {
		if d := x.Shape[i]; d != Any {
			shape[i] = (d+2*padding-kernel)/stride + 1
		}
	}
	return g.add("Conv", x.Type, shape, in,
		Attr{"kernel_shape", []int{kernel, kernel}},
		Attr{"strides", []int{stride, stride}},
		Attr{"pads", []int{padding, padding, padding, padding}})
}

// SiLU is x·σ(x).
func (g *Graph) SiLU(x Value) Value { return g.Mul(x, g.Sigmoid(x)) }

// QuickGELU is x·σ(1.702·x), CLIP's approximation.
func (g *Graph) QuickGELU(x Value) Value { return g.Mul(x, g.Sigmoid(g.Mul(x, g.Scalar(1.702)))) }

// GELU is x·Φ(x) with the exact error function (Hendrycks & Gimpel 2016).
func (g *Graph) GELU(x Value) Value {
	inner := g.Add(g.Erf(g.Div(x, g.Scalar(1.4142135))), g.Scalar(1))
	return g.Mul(g.Mul(x, inner), g.Scalar(0.5))
}

// Activation applies an activation by its name in a config.
func (g *Graph) Activation(name string, x Value) Value {
	switch name {
	case "quick_gelu":
		return g.QuickGELU(x)
	case "gelu":
		return g.GELU(x)
	case "silu", "swish":
		return g.SiLU(x)
	}
	g.Problem("activation %q is not supported, want quick_gelu, gelu or silu", name)
	return x
}
