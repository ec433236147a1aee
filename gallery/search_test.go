package gallery

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"leafserve"
)

// TestSearchIsExact compares with sorting all, over more entries than one core
// gets, with equal scores among them and another space in between.
func TestSearchIsExact(t *testing.T) {
	const n = 3*smallest + 7
	all := entriesOf(unit(10, n, 8))
	for i := range all {
		if i%5 == 0 {
			all[i].Embedding = all[i/2].Embedding
		}
		if i%7 == 0 {
			all[i].Space = "b"
		}
	}
	slices.Reverse(all) // so that of equals the better comes later
	x := indexed(t).Index()
	if err := x.Add(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	entries, err := x.refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	query := unit(11, 1, 8)[0]
	var want []found
	for _, e := range entries {
		if e.Space == "a" {
			want = append(want, found{e, dot(query, e.Embedding)})
		}
	}
	slices.SortFunc(want, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.entry.Name, b.entry.Name))
	})
	for _, k := range []int{0, 1, 2, 24, 100, len(want), n} {
		t.Run(fmt.Sprint("k=", k), func(t *testing.T) {
			hits, err := x.Of("").Search(t.Context(), "a", query, k)
			if err != nil || len(hits) != min(k, len(want)) {
				t.Fatalf("Search = %d hits, %v, want %d", len(hits), err, min(k, len(want)))
			}
			for i, h := range hits {
				if h.Name != want[i].entry.Name || h.Score != want[i].score {
					t.Fatalf("hit %d is %s at %v, want %s at %v", i, h.Name, h.Score, want[i].entry.Name, want[i].score)
				}
			}
		})
	}
}

// TestSearchOfEquals: which of equal scores are left out does not depend on the
// order in which pictures were made.
func TestSearchOfEquals(t *testing.T) {
	all := entriesOf(slices.Repeat([]Embedding{{1, 0}}, 9))
	slices.Reverse(all)
	if got := names(t)(indexed(t, all...).Index().Of("").Search(t.Context(), "a", []float32{1, 0}, 3)); got != "p00000 p00001 p00002" {
		t.Errorf("Search = %s, want the first names", got)
	}
}

func TestSearchOfAnotherSpace(t *testing.T) {
	x := indexed(t, entriesOf(unit(12, 3, 4))...).Index()
	for name, query := range map[string][]float32{"another space": unit(1, 1, 4)[0], "another width": unit(1, 1, 5)[0]} {
		space := map[bool]string{true: "a", false: "b"}[len(query) == 5]
		if hits, err := x.Of("").Search(t.Context(), space, query, 5); len(hits) != 0 || err != nil {
			t.Errorf("%s: Search = %v, %v, want nothing", name, hits, err)
		}
	}
}

func TestLike(t *testing.T) {
	all := entriesOf([]Embedding{{1, 0, 0}, {0.6, 0.8, 0}, {0, 0, 1}, {0.8, 0.6, 0}, nil, {1, 0, 0}})
	all[5].Space = "b"
	x := indexed(t, all...).Index()
	hits, err := x.Of("").Like(t.Context(), "p00000.png", 9)
	if got := names(t)(hits, err); got != "p00003 p00001 p00002" {
		t.Errorf("Like = %s, want p00003 p00001 p00002", got)
	}
	if len(hits) == 3 && (math.Abs(hits[0].Score-0.8) > 1e-4 || math.Abs(hits[2].Score) > 1e-4) {
		t.Errorf("scores %v and %v, want 0.8 and 0", hits[0].Score, hits[2].Score)
	}
	if got := names(t)(x.Of("").Like(t.Context(), "p00005.png", 9)); got != "" {
		t.Errorf("alone in its space: %s, want nothing", got)
	}
	_, err = x.Of("").Like(t.Context(), "p00009.png", 9)
	wantKind(t, "Like of a picture that is not there", err, leafserve.NotFound)
	_, err = x.Of("").Like(t.Context(), "p00004.png", 9)
	wantKind(t, "Like of a picture without an embedding", err, leafserve.Invalid)
}

func TestNewest(t *testing.T) {
	all := entriesOf(unit(13, 5, 2))
	all[1].Created, all[4].Embedding = all[2].Created, nil
	x := indexed(t, all[2], all[0], all[4], all[1], all[3]).Index()
	if got := names(t)(x.Of("").Newest(t.Context(), 4)); got != "p00004 p00003 p00001 p00002" {
		t.Errorf("Newest = %s, want p00004 p00003, then p00001 p00002 of one time", got)
	}
}

// TestViewOfAClient: a client finds its own pictures, however it looks for them.
func TestViewOfAClient(t *testing.T) {
	all := entriesOf([]Embedding{{1, 0, 0}, {0.6, 0.8, 0}, {0, 0, 1}, {0.8, 0.6, 0}})
	all[0].Client, all[1].Client, all[3].Client = "shop", "lab", "shop"
	x := indexed(t, all...).Index()
	query := []float32{1, 0, 0}
	for client, want := range map[string]string{"shop": "p00000 p00003", "lab": "p00001", "nobody": "", "": "p00000 p00003 p00001 p00002"} {
		if got := names(t)(x.Of(client).Search(t.Context(), "a", query, 9)); got != want {
			t.Errorf("%q finds %s, want %s", client, got, want)
		}
	}
	if got := names(t)(x.Of("shop").Like(t.Context(), "p00000.png", 9)); got != "p00003" {
		t.Errorf("like its own: %s, want p00003", got)
	}
	if got := names(t)(x.Of("lab").Newest(t.Context(), 9)); got != "p00001" {
		t.Errorf("its newest: %s, want p00001", got)
	}
	_, err := x.Of("lab").Like(t.Context(), "p00000.png", 9)
	wantKind(t, "Like of another client's picture", err, leafserve.NotFound)
}
