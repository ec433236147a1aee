package report_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func parse(t testing.TB, text string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// find gives the elements with a tag, in order.
func find(root *html.Node, tag string) []*html.Node {
	var found []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag {
			found = append(found, n)
		}
	}
	return found
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textOf gives what can be read, styles left out.
func textOf(root *html.Node) string {
	var out strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			out.WriteString(n.Data)
		}
	}
	return out.String()
}

// void elements have no end tag.
var void = []string{"meta", "img", "input", "br"}

// checkNesting compares the tags as written with the tree that a parser makes
// of them: a parser mends what is not valid.
func checkNesting(t testing.TB, text string) {
	t.Helper()
	var written, stack []string
	tokens := html.NewTokenizer(strings.NewReader(text))
	for tokens.Next() != html.ErrorToken {
		switch token := tokens.Token(); token.Type {
		case html.StartTagToken, html.SelfClosingTagToken:
			written = append(written, strings.Join(append(slices.Clone(stack), token.Data), ">"))
			if token.Type == html.StartTagToken && !slices.Contains(void, token.Data) {
				stack = append(stack, token.Data)
			}
		case html.EndTagToken:
			if len(stack) == 0 || stack[len(stack)-1] != token.Data {
				t.Fatalf("</%s> ends %v", token.Data, stack)
			}
			stack = stack[:len(stack)-1]
		}
	}
	if len(stack) > 0 {
		t.Errorf("%v are never closed", stack)
	}
	var parsed []string
	for n := range parse(t, text).Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		path := []string{n.Data}
		for up := n.Parent; up.Type == html.ElementNode; up = up.Parent {
			path = append(path, up.Data)
		}
		slices.Reverse(path)
		parsed = append(parsed, strings.Join(path, ">"))
	}
	if !slices.Equal(written, parsed) {
		i := 0
		for i < min(len(written), len(parsed))-1 && written[i] == parsed[i] {
			i++
		}
		t.Errorf("element %d is written as %s and read as %s", i, written[i], parsed[i])
	}
}

// checkSafe: no script, no handler, no style of its own, and nothing that a
// browser would fetch.
func checkSafe(t testing.TB, doc *html.Node) {
	t.Helper()
	if n := len(find(doc, "style")); n != 1 {
		t.Errorf("%d style elements, want 1", n)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if slices.Contains([]string{"script", "link", "iframe", "object", "embed", "form", "base", "template", "foreignobject"}, n.Data) {
			t.Errorf("a %s element", n.Data)
		}
		for _, a := range n.Attr {
			switch fetches := slices.Contains([]string{"src", "href", "srcset", "action", "data", "poster"}, a.Key); {
			case strings.HasPrefix(a.Key, "on") || a.Key == "style":
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			case fetches && !strings.HasPrefix(a.Val, "data:image/png;base64,") && !strings.HasPrefix(a.Val, "#"):
				t.Errorf("<%s %s=%.80q> leads outside", n.Data, a.Key, a.Val)
			}
		}
	}
	for _, style := range find(doc, "style") {
		if css := style.FirstChild.Data; strings.Contains(css, "url(") || strings.Contains(css, "@import") {
			t.Error("the styles fetch something")
		}
	}
}

// checkLinks: names are unique, links and labels lead to them, pictures have
// words and sizes.
func checkLinks(t testing.TB, doc *html.Node) {
	t.Helper()
	ids := map[string]bool{}
	for n := range doc.Descendants() {
		if id := attr(n, "id"); id != "" && ids[id] {
			t.Errorf("id %s is there twice", id)
		} else if id != "" {
			ids[id] = true
		}
	}
	for n := range doc.Descendants() {
		for _, key := range []string{"href", "aria-labelledby"} {
			if to := strings.TrimPrefix(attr(n, key), "#"); to != "" && !ids[to] {
				t.Errorf("%s leads to %q, which is nowhere", key, to)
			}
		}
		if n.Data == "img" && (attr(n, "alt") == "" || attr(n, "width") == "" || attr(n, "height") == "") {
			t.Errorf("a picture without words or size: %v", n.Attr)
		}
	}
}
