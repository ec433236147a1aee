// Package onnx builds ONNX graphs in Go, node by node, straight from the tensor
// names of a checkpoint. It is pure Go: package ort runs what it builds.
//
//	g := onnx.New(checkpoint)
//	x := g.Input("x", onnx.Float, onnx.Any, 77, 192)
//	y := g.Linear("mlp.fc1", x, 768) // weights mlp.fc1.weight, mlp.fc1.bias
//	g.Output("y", y)
//	model, err := g.Model()
//
// A weight is not copied: the graph names the safetensors file, an offset and a
// length ("external data"), and the runtime maps it. Half-precision weights get
// a Cast to float32 beside them.
//
// The builder infers shapes and remembers every mistake (a shape that does not
// fit, a weight that is missing, of the wrong shape, or that nothing asked for);
// Model returns them all at once. Every op is one method that appends one node,
// and Gradients appends the derivatives of a loss as ordinary nodes too.
package onnx
