package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
)

// fileOf frames payloads.
func fileOf(t testing.TB, payloads ...[]byte) []byte {
	t.Helper()
	data := head()
	for _, payload := range payloads {
		var err error
		if data, err = appendFrame(data, payload); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

func encoded(t testing.TB, value any) []byte {
	t.Helper()
	var payload []byte
	var err error
	switch value := value.(type) {
	case Begin:
		payload, err = encodeBegin(value)
	case Turn:
		payload, err = encodeTurn(value)
	case Failed:
		payload, err = encodeFailed(value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestEntriesRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		turn := turns().Draw(rt, "turn")
		payload, err := encodeTurn(turn)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := decodeEntry(payload)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(&turn, got.turn); diff != "" {
			rt.Fatalf("the turn changed (-written +read):\n%s", diff)
		}
		failed := Failed{Episode: turn.Episode, Attempt: turn.Attempt, From: turn.From, Kind: rollout.FailedTool, Reason: turn.Answer}
		again, err := decodeEntry(encoded(t, failed))
		if err != nil || cmp.Diff(&failed, again.failed) != "" {
			rt.Fatalf("%+v became %+v, %v", failed, again.failed, err)
		}
		begun, err := decodeEntry(encoded(t, turn.Begin))
		if err != nil || *begun.begin != turn.Begin {
			rt.Fatalf("%+v became %+v, %v", turn.Begin, begun.begin, err)
		}
	})
}

func TestEntriesThatCannotBeWritten(t *testing.T) {
	for want, turn := range map[string]Turn{
		"group is -1; it lies between 0":             {Begin: Begin{Episode: Episode{Group: -1}}},
		"turn is 2147483648; it lies between 0":      {Begin: Begin{Turn: 1 << 31}},
		"1 tokens, 0 log-probabilities, 0 entropies": {Tokens: []int32{1}},
	} {
		if _, err := encodeTurn(turn); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestDecoderIsStrict changes what a payload says: everything that no writer writes is refused.
func TestDecoderIsStrict(t *testing.T) {
	payload := encoded(t, newScript(1, 2, 1).turn(5, ""))
	for n := range payload {
		if _, err := decodeEntry(payload[:n]); err == nil {
			t.Errorf("a payload of %d bytes cut to %d is read", len(payload), n)
		}
	}
	if _, err := decodeEntry(append(bytes.Clone(payload), 0)); !errors.Is(err, errExtra) {
		t.Errorf("a longer payload: %v", err)
	}
	if _, err := decodeEntry([]byte("Z")); !errors.Is(err, errKind) {
		t.Errorf("an unknown kind: %v", err)
	}
	p := &packer{}
	p.listHead(false, 2)
	for _, name := range []string{"b", "a"} {
		p.text(name)
		p.float(1)
	}
	u := &unpacker{data: p.data}
	if unpackMap[map[string]float64](u, 8, u.float); !errors.Is(u.end(), errOrder) {
		t.Errorf("names out of order: %v", u.err)
	}
}

// collect reads a file's entries, written again as payloads.
func collect(t testing.TB, data []byte) (payloads []string, damage []*DamagedError) {
	t.Helper()
	damage = scan("file", data, func(e entry) {
		switch {
		case e.begin != nil:
			payloads = append(payloads, string(encoded(t, *e.begin)))
		case e.turn != nil:
			payloads = append(payloads, string(encoded(t, *e.turn)))
		default:
			payloads = append(payloads, string(encoded(t, *e.failed)))
		}
	})
	return payloads, damage
}

// TestEveryCutKeepsWhatIsWhole cuts a file after each byte: every frame that is whole is read, and nothing
// is called damaged.
func TestEveryCutKeepsWhatIsWhole(t *testing.T) {
	s := newScript(3, 1, 1)
	var payloads [][]byte
	var ends []int
	for i := range 4 {
		turn := s.turn(i, "")
		payloads = append(payloads, encoded(t, turn.Begin), encoded(t, turn))
		if i == 2 {
			payloads = append(payloads, encoded(t, Failed{Episode: turn.Episode, Kind: rollout.FailedTool, Reason: frameMagic}))
		}
	}
	for i := range payloads {
		ends = append(ends, len(fileOf(t, payloads[:i+1]...)))
	}
	data := fileOf(t, payloads...)
	for cut := range len(data) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		got, damage := collect(t, data[:cut])
		if len(got) != whole || damage != nil {
			t.Fatalf("cut to %d of %d bytes: %d entries, %v; want %d", cut, len(data), len(got), damage, whole)
		}
	}
}

// TestDamageInTheMiddleIsNamed flips each bit of a file in turn: only entries that hold it are lost, and
// unless they are the last ones the place is named.
func TestDamageInTheMiddleIsNamed(t *testing.T) {
	s := newScript(3, 1, 1)
	var payloads [][]byte
	starts := []int{}
	for i := range 3 {
		starts = append(starts, len(fileOf(t, payloads...)))
		payloads = append(payloads, encoded(t, s.turn(i, "")))
	}
	data := fileOf(t, payloads...)
	last := starts[2]
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		got, damage := collect(t, changed)
		if i >= len(headMagic) && i < headBytes {
			if len(damage) != 1 || !strings.Contains(damage[0].Reason, "is not known, only 1") {
				t.Fatalf("byte %d: %v", i, damage)
			}
			continue
		}
		holds := -1 // the entry that the byte belongs to
		for e, start := range starts {
			if i >= start {
				holds = e
			}
		}
		var want []string
		for e, payload := range payloads {
			if e != holds {
				want = append(want, string(payload))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("byte %d of entry %d: other entries are read", i, holds)
		}
		if named := len(damage) == 1; named != (i < last) {
			t.Fatalf("byte %d, the last entry begins at %d: %v", i, last, damage)
		}
		if holds >= 0 && i < last && damage[0].Offset != starts[holds] {
			t.Fatalf("byte %d: %v, want byte %d", i, damage[0], starts[holds])
		}
	}
}

func TestOtherFilesAreNamed(t *testing.T) {
	for data, want := range map[string]string{
		"a text that is no journal at all": "file: byte 0: not the head of a file of turns; ",
		"TWTURNS\x00\x02\x00\x00\x00":      "file: byte 8: version 2 is not known, only 1; read it with a newer program",
		string(fileOf(t, []byte("Znew"))):  fmt.Sprintf("file: byte %d: a frame of an unknown kind; read the file with a newer program", headBytes),
		string(fileOf(t, []byte("B"))):     fmt.Sprintf("file: byte %d: an entry that cannot be read: the data ends", headBytes),
	} {
		payloads, damage := collect(t, []byte(data))
		if len(payloads) != 0 || len(damage) != 1 || !strings.HasPrefix(damage[0].Error(), want) {
			t.Errorf("%q: %v, want %s", data, damage, want)
		}
	}
}

func FuzzScan(f *testing.F) {
	s := newScript(3, 1, 1)
	f.Add(fileOf(f, encoded(f, s.turn(1, "")), encoded(f, s.turn(2, rollout.StopAnswer))), 30)
	f.Add(fileOf(f, encoded(f, Begin{}), encoded(f, Failed{Kind: rollout.FailedTool, Reason: "x"})), 0)
	f.Add([]byte(frameMagic+frameMagic), 1)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		sealed := bytes.Clone(data)
		if at >= headBytes && at+frameBytes <= len(sealed) { // a frame whose checksum is right, whatever it says
			copy(sealed[at:], frameMagic)
			binary.LittleEndian.PutUint32(sealed[at+4:], uint32(len(sealed)-at-frameBytes))
			binary.LittleEndian.PutUint32(sealed[at+8:], checksum(sealed[at+4:][:4], sealed[at+frameBytes:]))
		}
		for _, candidate := range [][]byte{data, sealed} {
			payloads, _ := collect(t, candidate)
			for _, payload := range payloads {
				if !bytes.Contains(candidate, []byte(payload)) {
					t.Fatalf("an entry reads back as %q, which is not in the file", payload)
				}
			}
		}
	})
}
