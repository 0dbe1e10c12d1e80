package record

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func exampleSegment(t testing.TB) []byte {
	t.Helper()
	data, err := EncodeSegment(exampleGroup())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// seal replaces the checksum by the right one, to reach what lies behind it.
func seal(data []byte) []byte {
	if len(data) < segmentSuffix {
		return data
	}
	body := bytes.Clone(data[:len(data)-segmentSuffix])
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

func TestSegmentDetectsEveryFlippedBit(t *testing.T) {
	data := exampleSegment(t)
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		if _, err := DecodeSegment(changed); err == nil {
			t.Errorf("a flipped bit in byte %d of %d went unnoticed", i, len(data))
		}
	}
}

func TestSegmentDetectsEveryCut(t *testing.T) {
	data := exampleSegment(t)
	for n := range data {
		if _, err := DecodeSegment(data[:n]); err == nil {
			t.Errorf("a segment of %d bytes cut to %d went unnoticed", len(data), n)
		}
	}
}

func TestSegmentSaysWhatIsWrong(t *testing.T) {
	data := exampleSegment(t)
	edit := func(old, new string) []byte {
		length := binary.LittleEndian.Uint32(data[12:])
		header, columns := data[segmentPrefix:][:length], data[segmentPrefix+int(length):]
		if !bytes.Contains(header, []byte(old)) {
			t.Fatalf("the header has no %s to change", old)
		}
		header = bytes.Replace(header, []byte(old), []byte(new), 1)
		changed := binary.LittleEndian.AppendUint32(bytes.Clone(data[:12]), uint32(len(header)))
		return seal(append(append(changed, header...), columns...))
	}
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "decode segment: 0 bytes are too few"},
		{"another file", []byte(example), `the data starts with "{\"schema"`},
		{"version", seal(bytes.Replace(data, []byte("TWGROUP\x00\x01"), []byte("TWGROUP\x00\x02"), 1)), "version 2 is not known, only 1"},
		{"changed", append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1), "it was changed or cut"},
		{"header length", seal(append(append(bytes.Clone(data[:12]), 0xff, 0xff, 0xff, 0x7f), data[16:]...)), "the header has 2147483647 bytes, but only"},
		{"unknown field", edit(`"stop":`, `"halt":`), `header: json: unknown field "halt"`},
		{"trailing", edit("]}\n", "]}{}\n"), "header: data follows"},
		{"too many tokens", edit(`"tokens":7`, `"tokens":9`), "trajectories[0].versions: 4 entries of 4 bytes, but only 8 bytes are left"},
		{"too few tokens", edit(`"tokens":7`, `"tokens":5`), "trajectories[0].turns[1]: [5,7) is not within 5 tokens"},
		{"far too many tokens", edit(`"tokens":7`, `"tokens":999999999`), "trajectories[0].tokens: 999999999 entries of 4 bytes, but only"},
		{"negative tokens", edit(`"tokens":7`, `"tokens":-1`), "trajectories[0].tokens: -1 entries"},
		{"one column fewer", edit(`"versions":true`, `"versions":false`), "16 bytes follow the last column"},
		{"one column more", edit(`"entropies":false`, `"entropies":true`), "trajectories[0].entropies: 7 entries of 4 bytes, but only 0"},
		{"values", edit(`"entropies":false`, `"entropies":false,"values":true`), "trajectories[0].values: 7 entries of 4 bytes, but only 0"},
		{"reference", edit(`"entropies":false`, `"entropies":false,"reference_logprobs":true`), "trajectories[0].reference_logprobs: 7 entries of 4 bytes, but only 0"},
		{"overlap", edit(`"start":5,"end":7`, `"start":3,"end":7`), "turns[1]: token 3 belongs to an earlier turn too"},
		{"other turns", edit(`"start":5,"end":7`, `"start":4,"end":7`), "trajectories[0]."},
		{"stop", edit(`"stop":"answer"`, `"stop":"ansser"`), `stop: "ansser" is unknown`},
		{"surplus", seal(append(bytes.Clone(data), 0, 0, 0, 0)), "4 bytes follow the last column"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeSegment(test.data)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestSegmentIsDenser(t *testing.T) {
	g := exampleGroup()
	long := &g.Trajectories[0]
	for range 1000 {
		long.Tokens = append(long.Tokens, 31999)
		long.Sampled = append(long.Sampled, true)
		long.BehaviorLogProbs = append(long.BehaviorLogProbs, -0.123456)
		long.Versions = append(long.Versions, 4)
	}
	long.Turns[1].End = len(long.Tokens)
	data, err := EncodeSegment(g)
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := WriteGroup(&line, g); err != nil {
		t.Fatal(err)
	}
	if len(data) > line.Len()*2/3 {
		t.Errorf("the segment takes %d bytes, the line %d", len(data), line.Len())
	}
}

func FuzzDecodeSegment(f *testing.F) {
	f.Add(exampleSegment(f))
	attempted, err := EncodeSegment(attemptedGroup())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(attempted)
	f.Add([]byte("TWGROUP\x00\x01\x00\x00\x00\x02\x00\x00\x00{}\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, candidate := range [][]byte{data, seal(data)} {
			g, err := DecodeSegment(candidate)
			if err != nil {
				continue
			}
			again, err := EncodeSegment(g)
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			same, err := DecodeSegment(again)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g, same, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("a second round trip changed the group:\n%s", diff)
			}
		}
	})
}
