//go:build ortbundle

package ort

import _ "embed"

// bundled is the published library of this platform, gzipped: `make build` puts
// it here, so that one file is the whole program.
//
//go:embed libonnxruntime.gz
var bundled []byte
