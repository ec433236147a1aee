package eval

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"leafserve/eval/data"
	"leafserve/tensor"
)

// captioned is the built-in set, a caption a picture.
func captioned(t *testing.T, pictures func(data.Set) tensor.Tensor) Captioned {
	t.Helper()
	set, err := data.Default().Set()
	if err != nil {
		t.Fatal(err)
	}
	task := Captioned{Images: pictures(set)}
	for i, c := range set.Captions {
		task.Texts, task.Shows, task.Typos = append(task.Texts, c.Text), append(task.Shows, i), append(task.Typos, c.Typos)
	}
	return task
}

// TestCardRetrieval holds R@1 to PyTorch's figures, as TestCard does accuracy.
func TestCardRetrieval(t *testing.T) {
	var card map[string]struct {
		TextToImage float64 `json:"text_to_image_r1"`
		ImageToText float64 `json:"image_to_text_r1"`
	}
	raw, err := os.ReadFile("testdata/card.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &card); err != nil {
		t.Fatal(err)
	}
	l, pictures := loadLab(t)
	r := start(t, l, t.TempDir(), Settings{Arms: []string{"standard", "robust"}, Edits: []int{1, 2, 3, 4, 5}}, quiet)
	result, err := Retrieval(t.Context(), r, captioned(t, pictures), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, row := range result.Rows {
		name := row.Arm + "/clean"
		if row.Edits > 0 {
			name = row.Arm + "/typo" + string(rune('0'+row.Edits))
		}
		want := map[string]float64{"text → image R@1": card[name].TextToImage, "image → text R@1": card[name].ImageToText}[row.Figure]
		if row.Over != "" || want == 0 {
			continue
		}
		checked++
		if math.Abs(row.Mean-want) > 1.5/345 { // a picture may tip over
			t.Errorf("%s %s is %.4f, want %.4f", name, row.Figure, row.Mean, want)
		}
	}
	if checked != 2*len(card) {
		t.Errorf("%d figures checked, the file has %d", checked, 2*len(card))
	}
}

// TestRetrievalIsAttacked: both searches lower R@1, and charmer with a target
// does less than without.
func TestRetrievalIsAttacked(t *testing.T) {
	l, pictures := loadLab(t)
	task := captioned(t, pictures)
	s := Settings{Arms: []string{"standard"}, Edits: []int{2}, Rho: 4, Limit: 16, Seed: 3}
	figures := func(target string) func(attack, arm string) float64 {
		result, err := Retrieval(t.Context(), start(t, l, t.TempDir(), s, quiet), task, []string{"leaf", "charmer"}, target)
		if err != nil {
			t.Fatal(err)
		}
		return func(attack, arm string) float64 {
			for _, row := range result.Rows {
				if row.Figure == "text → image R@1" && row.Attack == attack && row.Arm == arm && row.Over == "" {
					return row.Mean
				}
			}
			t.Fatalf("no figure of %s on %s", attack, arm)
			return 0
		}
	}
	own, target := figures(""), figures("a man kicks a stray dog")
	for _, arm := range s.Arms {
		for _, attack := range []string{"leaf", "charmer"} {
			if worst, clean := own(attack, arm), own("", arm); worst >= clean {
				t.Errorf("%s on %s: R@1 %.3f, clean %.3f", attack, arm, worst, clean)
			}
		}
		if a, b := own("charmer", arm), target("charmer", arm); b <= a {
			t.Errorf("%s: R@1 %.3f away from the text itself, %.3f away from a target", arm, a, b)
		}
		if a, b := own("leaf", arm), target("leaf", arm); a != b {
			t.Errorf("%s: a target changes R@1 of leaf from %.3f to %.3f", arm, a, b)
		}
	}
}

func TestRank(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cos   []float64
		right []int
		want  int
	}{
		{"first", []float64{0.9, 0.5, 0.1}, []int{0}, 1},
		{"last", []float64{0.9, 0.5, 0.1}, []int{2}, 3},
		{"the best of several", []float64{0.9, 0.5, 0.1}, []int{2, 1}, 2},
		{"equals before it", []float64{0.5, 0.5, 0.5}, []int{1}, 2},
		{"equals after it", []float64{0.1, 0.5, 0.5}, []int{1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := rank(tc.cos, tc.right); got != tc.want {
				t.Errorf("rank = %d, want %d", got, tc.want)
			}
		})
	}
}

// TestRecalls: three pictures at right angles, the first with two texts, one of
// which is another's; the last has none.
func TestRecalls(t *testing.T) {
	unit := func(axes ...int) tensor.Tensor {
		x := tensor.New(len(axes), 12)
		for i, a := range axes {
			x.Row(i).Data[a] = 1
		}
		return x
	}
	task := Captioned{Images: unit(0, 1, 2), Texts: []string{"a", "b", "c"}, Shows: []int{0, 0, 1}}
	got := map[string][]float64{}
	for _, f := range task.recalls(unit(0, 1, 1)) {
		got[f.name] = f.values
	}
	want := map[string][]float64{
		"text → image R@1": {1, 0, 1}, "text → image R@5": {1, 1, 1}, "text → image R@10": {1, 1, 1},
		"image → text R@1": {1, 0}, "image → text R@5": {1, 1}, "image → text R@10": {1, 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("recalls = %v, want %v", got, want)
	}
}

func TestFirstPictures(t *testing.T) {
	task := Captioned{
		Images: tensor.New(3, 2), Texts: []string{"a", "b", "c", "d"}, Shows: []int{0, 2, 1, 0},
		Typos: []data.Typos{{"1"}, {"2"}, {"3"}, {"4"}},
	}
	got := task.first(2)
	want := Captioned{Images: tensor.New(2, 2), Texts: []string{"a", "c", "d"}, Shows: []int{0, 1, 0}, Typos: []data.Typos{{"1"}, {"3"}, {"4"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("first(2) = %+v, want %+v", got, want)
	}
	for _, n := range []int{0, 3, 9} {
		if got := task.first(n); !reflect.DeepEqual(got, task) {
			t.Errorf("first(%d) = %+v, want all", n, got)
		}
	}
}

func TestCocoCaption(t *testing.T) {
	for text, want := range map[string]string{
		`A "red" Bus, (parked): #1; 50% ~off!*.`: "a red bus, parked 1 50% off",
		"It's\n a  dog":                          "it's a dog",
		strings.Repeat("a ", 60):                 strings.TrimSpace(strings.Repeat("a ", 50)),
		"...":                                    "",
	} {
		if got := CocoCaption(text); got != want {
			t.Errorf("CocoCaption(%q) = %q, want %q", text, got, want)
		}
	}
}
