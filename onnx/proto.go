package onnx

import (
	"encoding/binary"
	"math"
)

// message is a protobuf message being written. ONNX needs few kinds of field,
// so this is all of the wire format that we use; field numbers are those of
// onnx.proto (IR version 10).
type message []byte

// Wire types of protobuf.
const (
	wireVarint = 0
	wireBytes  = 2
	wire32     = 5
)

func (m *message) key(field, wire int) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|uint64(wire))
}

func (m *message) int(field int, v int64) {
	m.key(field, wireVarint)
	*m = binary.AppendUvarint(*m, uint64(v))
}

func (m *message) float(field int, v float32) {
	m.key(field, wire32)
	*m = binary.LittleEndian.AppendUint32(*m, math.Float32bits(v))
}

func (m *message) bytes(field int, v []byte) {
	m.key(field, wireBytes)
	*m = binary.AppendUvarint(*m, uint64(len(v)))
	*m = append(*m, v...)
}

func (m *message) string(field int, v string) { m.bytes(field, []byte(v)) }

func (m *message) ints(field int, vs []int) { // packed
	var packed message
	for _, v := range vs {
		packed = binary.AppendUvarint(packed, uint64(v))
	}
	m.bytes(field, packed)
}

// Versions written into every model. Opset 17 is the first with
// LayerNormalization; the contrib domain holds MultiHeadAttention.
const (
	irVersion     = 8
	opset         = 17
	contribDomain = "com.microsoft"
)

// modelProto wraps a GraphProto.
func modelProto(graph message) []byte {
	var m message
	m.int(1, irVersion)
	m.string(2, "leafserve")
	m.bytes(7, graph)
	for _, set := range []struct {
		domain  string
		version int64
	}{{"", opset}, {contribDomain, 1}} {
		var id message
		id.string(1, set.domain)
		id.int(2, set.version)
		m.bytes(8, id)
	}
	return m
}

// proto writes n as a NodeProto.
func (n Node) proto() message {
	var m message
	for _, v := range n.In {
		m.string(1, v.Name)
	}
	for _, v := range n.Out {
		m.string(2, v.Name)
	}
	m.string(4, n.Op)
	for _, a := range n.Attrs {
		m.bytes(5, a.proto())
	}
	m.string(7, n.Domain)
	return m
}

// AttributeProto.type values.
const (
	attrFloat  = 1
	attrInt    = 2
	attrString = 3
	attrInts   = 7
)

// proto writes a as an AttributeProto.
func (a Attr) proto() message {
	var m message
	m.string(1, a.Name)
	switch v := a.Value.(type) {
	case float32:
		m.float(2, v)
		m.int(20, attrFloat)
	case int:
		m.int(3, int64(v))
		m.int(20, attrInt)
	case string:
		m.string(4, v)
		m.int(20, attrString)
	case []int:
		m.ints(8, v)
		m.int(20, attrInts)
	}
	return m
}

// valueInfo writes a ValueInfoProto; Any dimensions are left open.
func valueInfo(v Value) message {
	var shape message
	for _, d := range v.Shape {
		var dim message
		if d != Any {
			dim.int(1, int64(d))
		}
		shape.bytes(1, dim)
	}
	var tensorType, typ, m message
	tensorType.int(1, int64(v.Type))
	tensorType.bytes(2, shape)
	typ.bytes(1, tensorType)
	m.string(1, v.Name)
	m.bytes(2, typ)
	return m
}

// tensorProto starts a TensorProto: name, type and dims.
func tensorProto(v Value) message {
	var m message
	m.ints(1, v.Shape)
	m.int(2, int64(v.Type))
	m.string(8, v.Name)
	return m
}

// external adds the place of a tensor's bytes in a file.
func (m *message) external(entries [][2]string) {
	for _, e := range entries {
		var kv message
		kv.string(1, e[0])
		kv.string(2, e[1])
		m.bytes(13, kv)
	}
	m.int(14, 1) // data_location = EXTERNAL
}
