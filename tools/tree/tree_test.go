// Package tree has no code, only tests that hold the tree to its own measures:
// small functions and files, a comment on all that is exported, and imports that
// go one way. They read every Go file that is not a test.
package tree

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The measures, in lines. Generated files are left out.
const (
	maxFile     = 450
	maxFunc     = 80
	maxFuncP90  = 40
	maxFuncHalf = 12 // median
)

func TestSizes(t *testing.T) {
	var lengths []int
	eachFile(t, func(path string, fset *token.FileSet, file *ast.File) {
		if n := fset.File(file.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s has %d lines, the limit is %d: split it", path, n, maxFile)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1
			lengths = append(lengths, n)
			if n > maxFunc {
				t.Errorf("%s: %s has %d lines, the limit is %d: split it", path, f.Name.Name, n, maxFunc)
			}
		}
	})
	slices.Sort(lengths)
	half, p90 := lengths[len(lengths)/2], lengths[len(lengths)*9/10]
	t.Logf("%d functions: median %d lines, 90th percentile %d, longest %d", len(lengths), half, p90, lengths[len(lengths)-1])
	if half > maxFuncHalf || p90 > maxFuncP90 {
		t.Errorf("functions have a median of %d lines and a 90th percentile of %d, the limits are %d and %d", half, p90, maxFuncHalf, maxFuncP90)
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	eachFile(t, func(path string, fset *token.FileSet, file *ast.File) {
		for _, decl := range file.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s:%d: %s has no doc comment", path, fset.Position(name.Pos()).Line, name.Name)
			}
		}
	})
}

// undocumented gives the exported names of a declaration that neither their own
// comment nor the one of their group covers.
func undocumented(decl ast.Decl) []*ast.Ident {
	var names []*ast.Ident
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d)) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			names = append(names, undocumentedSpec(d, spec)...)
		}
	}
	return names
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) []*ast.Ident {
	var names []*ast.Ident
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if d.Doc == nil && s.Doc == nil {
			names = append(names, s.Name)
		}
	case *ast.ValueSpec:
		if d.Doc == nil && s.Doc == nil && s.Comment == nil {
			names = s.Names
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(n *ast.Ident) bool { return !n.IsExported() })
}

// exportedReceiver says whether a method belongs to an exported type.
func exportedReceiver(f *ast.FuncDecl) bool {
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

// eachFile parses every Go file of the project that people wrote and that is no
// test; path is relative to the root, with slashes.
func eachFile(t *testing.T, visit func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir(), filepath.Ext(path) != ".go", strings.HasSuffix(path, "_test.go"):
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err == nil && !ast.IsGenerated(file) {
			visit(filepath.ToSlash(rel), fset, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
