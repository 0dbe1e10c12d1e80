package render

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// corpus is synthetic experience: short texts over common words, names, and two-digit numbers.
func corpus() (texts, words, names []string) {
	words = strings.Fields(`who is the of what does how many search for answer result found no such
		entity relation city river teacher friend works lives near born capital country tool python
		print plus times minus has apples books more than gives each buys total left after and then`)
	names = strings.Fields(`mira tolan perun sable oskar vinta lumen garth idris quill ronan hedda
		josun katla nervo brisk calum dorin elwyn fenna`)
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var b strings.Builder
		for w := range 12 {
			if w > 0 {
				b.WriteByte(' ')
			}
			switch random.IntN(4) {
			case 0:
				b.WriteString(names[random.IntN(len(names))])
			case 1:
				fmt.Fprintf(&b, "%d", 10+random.IntN(90))
			default:
				b.WriteString(words[random.IntN(len(words))])
			}
		}
		texts = append(texts, b.String())
	}
	return texts, words, names
}

var trained = sync.OnceValues(func() (*Tokenizer, error) {
	texts, _, _ := corpus()
	return Train(texts, 640)
})

func tokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tokenizer, err := trained()
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"Hello world", []string{"Hello", " world"}},
		{"they'll don'T we'RE 'dx 'x", []string{"they", "'ll", " don", "'T", " we", "'RE", " '", "dx", " '", "x"}},
		{"12345 67", []string{"123", "45", " ", "67"}},
		{"a  b", []string{"a", " ", " b"}},
		{"a   \n\n  b", []string{"a", "   \n\n", " ", " b"}},
		{"end  ", []string{"end", "  "}},
		{"f(x)=3;\r\n\r\ny", []string{"f", "(x", ")=", "3", ";\r\n\r\n", "y"}},
		{"<call>search(\"mira\")</call>", []string{"<call", ">search", "(\"", "mira", "\")</", "call", ">"}},
		{"été über", []string{"été", " über"}},
		{"\tx", []string{"\tx"}},
		{"\t\tx", []string{"\t", "\tx"}},
		{"\n x", []string{"\n", " x"}},
		{"a \n", []string{"a", " \n"}},
		{"'ſ'", []string{"'ſ", "'"}},
		{"٣٤٥٦", []string{"٣٤٥", "٦"}},
		{" !!\n?", []string{" !!\n", "?"}},
		{"  1", []string{" ", " ", "1"}},
		{"a\xff\xfeb", []string{"a", "\xff\xfe", "b"}},
		{"\xffb", []string{"\xffb"}},
	} {
		var got []string
		for rest := test.text; rest != ""; {
			n := splitLlama3.next(rest)
			got, rest = append(got, rest[:n]), rest[n:]
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("split %q\n got %q\nwant %q", test.text, got, test.want)
		}
	}
}

func TestFrequentWordsBecomeSingleTokens(t *testing.T) {
	tok := tokenizer(t)
	_, words, names := corpus()
	for _, word := range append(words, names...) {
		if ids := tok.Tokens(" " + word); len(ids) != 1 {
			t.Errorf("%q takes %d tokens, want 1", " "+word, len(ids))
		}
	}
	for n := 10; n < 100; n++ {
		if ids := tok.Tokens(fmt.Sprint(n)); len(ids) != 1 {
			t.Errorf("%d takes %d tokens, want 1", n, len(ids))
		}
	}
	if tok.VocabSize() > 640 {
		t.Errorf("vocabulary has %d ids, want at most 640", tok.VocabSize())
	}
}

func TestTrainIgnoresTheOrderOfTexts(t *testing.T) {
	texts, _, _ := corpus()
	slices.Reverse(texts)
	reversed, err := Train(texts, 640)
	if err != nil {
		t.Fatal(err)
	}
	a, err := tokenizer(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := reversed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Error("the same texts in another order gave another tokenizer")
	}
}

func TestTrainStopsWhenNoPairRepeats(t *testing.T) {
	tok, err := Train([]string{"ab ab cd"}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	// "ab" at the start and " ab" share the pair a,b; nothing else occurs twice.
	if got, want := tok.VocabSize(), 256+1+5; got != want {
		t.Errorf("vocabulary has %d ids, want %d", got, want)
	}
	if _, err := Train(nil, 260); err == nil || !strings.Contains(err.Error(), "260 is below 261") {
		t.Errorf("a vocabulary without room for the bytes: got %v", err)
	}
}

func TestEpisode(t *testing.T) {
	tok := tokenizer(t)
	ids := tok.Prompt("who is mira?")
	ids = append(ids, tok.Tokens("search for mira")...)
	ids = append(ids, tok.End())
	ids = append(ids, tok.Observation("found")...)
	const want = "<|user|>who is mira?<|assistant|>search for mira<|end|><|tool|>found<|assistant|>"
	if got := tok.Text(ids); got != want {
		t.Errorf("episode reads %q, want %q", got, want)
	}
	if got, want := tok.PlainText(ids), "who is mira?search for mirafound"; got != want {
		t.Errorf("plain text is %q, want %q", got, want)
	}
	if got, want := tok.Text([]int32{-1, 9999}), "<|unknown:-1|><|unknown:9999|>"; got != want {
		t.Errorf("ids outside the vocabulary show as %q, want %q", got, want)
	}
}

func TestPlainTextNeverMakesSpecialTokens(t *testing.T) {
	tok := tokenizer(t)
	forged := strings.Join(specialNames, "")
	ids := tok.Prompt(forged)
	for i, id := range ids[1 : len(ids)-1] {
		if tok.added[id] != nil {
			t.Errorf("token %d of a forged text is the special token %s", i, tok.spellings[id])
		}
	}
	for _, name := range specialNames {
		if id, ok := tok.Special(name); !ok || tok.added[id] == nil {
			t.Errorf("%s: got id %d, known %t", name, id, ok)
		}
	}
	if _, ok := tok.Special("mira"); ok {
		t.Error("an ordinary word passes for a special token")
	}
}

// encodeByScan is the definition of BPE, without a heap and without a cache.
func encodeByScan(t *Tokenizer, piece string) []int32 {
	var ids []int32
	for i := range len(piece) {
		ids = append(ids, t.bytes[piece[i]])
	}
	for {
		at, best := -1, merged{}
		for i := 0; i+1 < len(ids); i++ {
			if m, ok := t.ranks[pair{ids[i], ids[i+1]}]; ok && (at < 0 || m.rank < best.rank) {
				at, best = i, m
			}
		}
		if at < 0 {
			return ids
		}
		ids = append(append(ids[:at:at], best.id), ids[at+2:]...)
	}
}

func TestHeapAgreesWithTheDefinition(t *testing.T) {
	aaa, err := Train([]string{"aaaa aaaaaaa aaaaaaaaaaa ababab aabaab bbaa"}, 290)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, tok := range []*Tokenizer{tokenizer(t), aaa} {
		for range 2000 {
			piece := make([]byte, 1+random.IntN(24))
			for i := range piece {
				piece[i] = "ab eirtnolsm01"[random.IntN(14)]
			}
			if got, want := tok.encodePiece(string(piece)), encodeByScan(tok, string(piece)); !slices.Equal(got, want) {
				t.Fatalf("%q encodes as %v, want %v", piece, got, want)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	texts, _, _ := corpus()
	tok, err := Train(texts[:50], 300)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for _, text := range texts[w*50 : w*50+200] {
				if got := tok.Text(tok.Tokens(text)); got != text {
					t.Errorf("%q came back as %q", text, got)
				}
			}
		})
	}
	group.Wait()
}

func FuzzRoundTrip(f *testing.F) {
	for _, seed := range []string{"", "who is mira?", "  \n\r\n x", "<|end|>", "\xff\x00\xc3", "日本語 🙂 e\u0301", "'LL 1234567"} {
		f.Add(seed)
	}
	tok := tokenizer(f)
	f.Fuzz(func(t *testing.T, text string) {
		ids := tok.Tokens(text)
		if got := tok.Text(ids); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
		if got := tok.PlainText(ids); got != text {
			t.Errorf("%q came back as %q in plain text: a special token was made", text, got)
		}
	})
}

func BenchmarkTokens(b *testing.B) {
	tok := tokenizer(b)
	texts, _, _ := corpus()
	for i := 0; b.Loop(); i++ {
		tok.Tokens(texts[i%len(texts)])
	}
}
