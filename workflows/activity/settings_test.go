package activity

import "testing"

func TestSameSettingsWhereverTheyComeFrom(t *testing.T) {
	const base = "name: a\nmethod: grpo\nenvironments: [{type: calc}]\n"
	for name, test := range map[string]struct {
		other string
		same  bool
	}{
		"same text":                  {base, true},
		"a default written out":      {base + "seed: 1\n", true},
		"another order and comments": {"environments: [{type: calc}] # one\nmethod: grpo\nname: a\n", true},
		"another seed":               {base + "seed: 2\n", false},
	} {
		same, err := sameSettings([]byte(base), []byte(test.other))
		if err != nil || same != test.same {
			t.Errorf("%s: same %v, error %v, want %v", name, same, err, test.same)
		}
	}
	if _, err := sameSettings([]byte(base), []byte("nonsense: 1\n")); err == nil {
		t.Error("a config that does not load compares without an error")
	}
}
