package tree

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "leafserve"

// layers holds, for every folder with code, the folders that its code (not its
// tests) may import. "." is the root package, whose types all share.
var layers = map[string][]string{
	".":                         {},
	"tensor":                    {},
	"weights":                   {"tensor"},
	"lexicon":                   {},
	"attack":                    {".", "lexicon"},
	"weights/builtin":           {"internal/atomicfile"},
	"onnx":                      {"tensor", "weights"},
	"ort":                       {"tensor", "onnx", "internal/atomicfile"},
	"textenc":                   {"tensor", "weights", "onnx", "ort"},
	"diffusion":                 {".", "tensor", "weights", "onnx", "ort"},
	"eval/data":                 {"."},
	"eval":                      {".", "tensor", "attack", "textenc", "stats", "eval/data", "invert"},
	"gallery":                   {".", "tensor"},
	"stats":                     {"."},
	"report":                    {".", "stats"},
	"pipeline":                  {".", "tensor", "weights", "onnx", "ort", "textenc", "diffusion", "gallery", "attack", "lexicon", "stats", "report", "invert", "internal/atomicfile"},
	"invert":                    {".", "tensor", "weights", "onnx", "ort", "textenc"},
	"queue":                     {".", "internal/atomicfile"},
	"web":                       {},
	"keys":                      {".", "internal/atomicfile"},
	"metrics":                   {"."},
	"tracing":                   {"."},
	"httpapi":                   {".", "tensor", "weights", "web"},
	"leaftrain/captions":        {"."},
	"leaftrain":                 {".", "tensor", "weights", "onnx", "ort", "attack", "textenc", "leaftrain/captions", "internal/atomicfile"},
	"cmd/leafserve":             {".", "tensor", "weights", "weights/builtin", "onnx", "ort", "textenc", "diffusion", "gallery", "pipeline", "queue", "web", "httpapi", "attack", "lexicon", "stats", "invert", "eval", "eval/data", "keys", "metrics", "tracing", "leaftrain", "leaftrain/captions", "internal/atomicfile"},
	"internal/atomicfile":       {},
	"internal/leaftest":         {".", "tensor", "weights", "onnx", "ort"},
	"internal/leaftest/browser": {},
	"tools/captions":            {"eval/data", "lexicon"},
	"tools/licences":            {},
	"tools/testsum":             {},
	"tools/unicode":             {},
}

func TestImports(t *testing.T) {
	eachFile(t, func(file string, fset *token.FileSet, tree *ast.File) {
		folder := path.Dir(file)
		allowed, known := layers[folder]
		if !known {
			t.Errorf("%s is not in the table of layers: say there what it may import", folder)
		}
		for _, spec := range tree.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case ours(name) && known && !slices.Contains(allowed, folderIn(name)):
				t.Errorf("%s:%d: %s must not import %s: hand in a function or share a root type", file, fset.Position(spec.Pos()).Line, folder, name)
			case (name == "C" || strings.HasPrefix(name, "github.com/yalue/")) && folder != "ort":
				t.Errorf("%s imports %q: native code stays in ort", file, name)
			}
		}
	})
}

// TestOnlyCommandsReadTheEnvironment: settings come to packages as values, so
// that one place says what can be set.
func TestOnlyCommandsReadTheEnvironment(t *testing.T) {
	eachFile(t, func(file string, fset *token.FileSet, tree *ast.File) {
		if folder := path.Dir(file); strings.HasPrefix(folder, "cmd/") || strings.HasPrefix(folder, "internal/leaftest") {
			return
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if ok && pkg.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, sel.Sel.Name) {
				t.Errorf("%s:%d: os.%s outside cmd: take the value as an argument", file, fset.Position(n.Pos()).Line, sel.Sel.Name)
			}
			return true
		})
	})
}

func ours(name string) bool { return name == module || strings.HasPrefix(name, module+"/") }

// folderIn gives the folder of one of our packages.
func folderIn(name string) string {
	if name == module {
		return "."
	}
	return strings.TrimPrefix(name, module+"/")
}
