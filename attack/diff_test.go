package attack_test

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"leafserve"
	"leafserve/attack"
)

func TestDiff(t *testing.T) {
	for _, tc := range []struct{ name, a, b, want string }{
		{"equal", "a cat", "a cat", "=a cat"},
		{"both empty", "", "", ""},
		{"all new", "", "cat", "+cat"},
		{"all gone", "cat", "", "-cat"},
		{"a letter dropped", "background", "backgrund", "=backgr|-o|=und"},
		{"a letter put in", "a cat", "a chat", "=a c|+h|=at"},
		{"a letter replaced", "a cat", "a cut", "=a c|-a|+u|=t"},
		{"a run replaced", "a cat sat", "a dog sat", "=a |-cat|+dog|= sat"},
		{"swapped", "a cat", "a cta", "=a c|-a|=t|+a"},
		{"swapped twice", "abcd", "badc", "-a|=b|-c|+a|=d|+c"},
		{"doubled", "yellow", "yelllow", "=yell|+l|=ow"},
		{"at the end", "cat", "cats!", "=cat|+s!"},
		{"code points", "a 🐱 猫", "a 🐶 猫", "=a |-🐱|+🐶|= 猫"},
		{"a mark", "e\u0301", "e", "=e|-\u0301"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := written(attack.Diff(tc.a, tc.b)); got != tc.want {
				t.Errorf("Diff(%q, %q) = %s, want %s", tc.a, tc.b, got, tc.want)
			}
		})
	}
}

func written(parts []leafserve.DiffPart) string {
	signs := map[string]string{"same": "=", "del": "-", "ins": "+"}
	var out []string
	for _, p := range parts {
		out = append(out, signs[p.T]+p.S)
	}
	return strings.Join(out, "|")
}

func TestManual(t *testing.T) {
	for _, tc := range []struct {
		name, prompt, typo string
		want               []leafserve.Edit
	}{
		{"one of each", "a cat on a blue background", "a cta on a bluue bckground", []leafserve.Edit{
			{Op: "swap", At: 3, From: "at", To: "ta"}, {Op: "insert", At: 13, To: "u"}, {Op: "delete", At: 18, From: "a"},
		}},
		{"replaced", "a cat", "a dag", []leafserve.Edit{{Op: "replace", At: 2, From: "c", To: "d"}, {Op: "replace", At: 4, From: "t", To: "g"}}},
		{"of nothing", "", "é", []leafserve.Edit{{Op: "insert", At: 0, To: "é"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := attack.Run(context.Background(), []string{tc.prompt}, nil, attack.Config{Method: attack.Manual, Manual: tc.typo})
			if err != nil {
				t.Fatal(err)
			}
			if r[0].Prompt != tc.typo || !reflect.DeepEqual(r[0].Edits, tc.want) {
				t.Errorf("Run = %q with %+v, want %+v", r[0].Prompt, r[0].Edits, tc.want)
			}
		})
	}
	_, err := attack.Run(context.Background(), []string{"a", "b"}, nil, attack.Config{Method: attack.Manual, Manual: "c"})
	if leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("two prompts and one typo: %v, want an Invalid error", err)
	}
}

// TestDiffOfLongTexts: the largest that a request can hold.
func TestDiffOfLongTexts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	long := func() string {
		b := make([]byte, leafserve.MaxPromptRunes)
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		return string(b)
	}
	checkDiff(t, long(), long())
}

func checkDiff(t *testing.T, a, b string) {
	t.Helper()
	var before, after strings.Builder
	last := ""
	for _, p := range attack.Diff(a, b) {
		if p.T != "ins" {
			before.WriteString(p.S)
		}
		if p.T != "del" {
			after.WriteString(p.S)
		}
		if p.S == "" || p.T == last {
			t.Errorf("Diff(%q, %q) has an empty or a split run", a, b)
		}
		last = p.T
	}
	if before.String() != a || after.String() != b {
		t.Errorf("Diff(%q, %q) holds %q, %q", a, b, before.String(), after.String())
	}
	if a == b {
		return
	}
	r, err := attack.Run(context.Background(), []string{a}, nil, attack.Config{Method: attack.Manual, Manual: b})
	if err != nil {
		t.Fatal(err)
	}
	if got := replay(t, a, r[0].Edits); got != b {
		t.Errorf("the edits from %q give %q, want %q", a, got, b)
	}
	if n, most := len(r[0].Edits), levenshtein(a, b); n > most || 2*n < most {
		t.Errorf("%d edits from %q to %q, the distance is %d", n, a, b, most)
	}
}

func FuzzDiff(f *testing.F) {
	f.Add("a cat", "a cta")
	f.Add("", "x")
	f.Add("abcabc", "cbacba")
	f.Add("🐱é", "e\u0301")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 200 || len(b) > 200 {
			t.Skip()
		}
		if a, b = strings.ToValidUTF8(a, "?"), strings.ToValidUTF8(b, "?"); b != "" {
			checkDiff(t, a, b)
		}
	})
}
