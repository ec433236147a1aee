package captions

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkNext measures captions a second, of 53 bytes as COCO's are, through
// the default shuffle buffer. Each has a picture of 8 kB beside it in the shards.
func BenchmarkNext(b *testing.B) {
	const captions = 20_000
	text := make([]string, captions)
	var members []member
	for i := range text {
		text[i] = fmt.Sprintf("a man rides a brown horse along the beach at dusk %04d", i%10_000)
		key := fmt.Sprintf("%08d", i)
		members = append(members, member{key + ".jpg", strings.Repeat("\xff", 8000)}, member{key + ".txt", text[i]})
	}
	shard := archive(b, members...)
	for _, bc := range []struct {
		name string
		data []byte
	}{
		{"a.txt", encode(b, "a.txt", text)},
		{"a.txt.gz", encode(b, "a.txt.gz", text)},
		{"a.jsonl", encode(b, "a.jsonl", text)},
		{"a.csv", encode(b, "a.csv", text)},
		{"a.tar", shard},
		{"a.tar.gz", zip(b, bytes.Clone(shard))},
	} {
		b.Run(bc.name, func(b *testing.B) {
			file := filepath.Join(b.TempDir(), bc.name)
			write(b, file, bc.data)
			s := open(b, Config{Files: []string{file}})
			const batch = 128
			b.ReportAllocs()
			for b.Loop() {
				next(b, s, batch)
			}
			b.ReportMetric(batch*float64(b.N)/b.Elapsed().Seconds(), "captions/s")
		})
	}
}
