package gpu

import (
	"reflect"
	"slices"
	"testing"
)

const mib = 1 << 20

func TestConditionOfReading(t *testing.T) {
	watts := 700.
	r := Reading{
		PowerWatts: &watts,
		Throttle:   []Throttle{ThrottleThermal, ThrottlePowerCap, ThrottleThermal},
		ECC:        &ECC{CorrectedVolatile: 9, UncorrectedVolatile: 2, UncorrectedAggregate: 7},
		Remap:      &Remap{Pending: true},
		Links:      []Link{{Up: true}, {}, {Errors: 4}},
		Recovery:   RecoverDrain,
		Processes:  []Process{{PID: 10, MemoryUsedBytes: 5000 * mib}, {PID: 11, MemoryUsedBytes: 200 * mib}, {PID: 12, MemoryUsedBytes: 100 * mib}},
	}
	want := Condition{Throttle: []Throttle{ThrottlePowerCap, ThrottleThermal}, Uncorrected: 2, RemapPending: true, LinksDown: 2,
		Recovery: RecoverDrain, ForeignBytes: 512 * mib}
	if got := r.Condition(10, 99); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !slices.Equal(r.Throttle, []Throttle{ThrottleThermal, ThrottlePowerCap, ThrottleThermal}) {
		t.Error("the reading was changed")
	}
	if got := (Reading{}).Condition(); !got.Equal(Condition{}) {
		t.Errorf("a reading that says nothing: %+v", got)
	}
	r.Gone = "fell off the bus"
	if got := r.Condition(); !got.Equal(Condition{Gone: "fell off the bus"}) {
		t.Errorf("a device that is gone: %+v", got)
	}
}

func TestForeignMemoryIsRoundedUp(t *testing.T) {
	for used, want := range map[int64]int64{0: 0, 1: 256 * mib, 256 * mib: 256 * mib, 256*mib + 1: 512 * mib, -5: 0} {
		r := Reading{Processes: []Process{{PID: 1, MemoryUsedBytes: used}}}
		if got := r.Condition().ForeignBytes; got != want {
			t.Errorf("%d bytes count as %d, want %d", used, got, want)
		}
		if got := r.Condition(1).ForeignBytes; got != 0 {
			t.Errorf("our own %d bytes count as %d", used, got)
		}
	}
}

// TestEveryFieldDistinguishes changes each field of a condition alone.
func TestEveryFieldDistinguishes(t *testing.T) {
	for i := range reflect.TypeFor[Condition]().NumField() {
		var changed Condition
		switch field := reflect.ValueOf(&changed).Elem().Field(i); field.Kind() {
		case reflect.Slice:
			field.Set(reflect.ValueOf([]Throttle{ThrottleThermal}))
		case reflect.Bool:
			field.SetBool(true)
		case reflect.String:
			field.SetString("reset")
		default:
			field.SetInt(1)
		}
		if name := reflect.TypeFor[Condition]().Field(i).Name; changed.Equal(Condition{}) || (Condition{}).Equal(changed) || !changed.Equal(changed) {
			t.Errorf("%s makes no difference", name)
		}
	}
	one := Condition{Throttle: []Throttle{ThrottleThermal, ThrottlePowerCap}}
	if other := (Condition{Throttle: []Throttle{ThrottlePowerCap, ThrottleThermal}}); !one.Equal(other) {
		t.Error("the order of throttle reasons makes a difference")
	}
}

func TestStandingAndBegan(t *testing.T) {
	names := func(faults []Fault) (out []string) {
		for _, fault := range faults {
			out = append(out, fault.Name)
		}
		return out
	}
	sick := Condition{Gone: "lost", Recovery: RecoverReset, RemapFailed: true, RemapPending: true, Uncorrected: 3, LinksDown: 2, Throttle: []Throttle{ThrottleThermal}}
	all := []string{Gone, RecoveryAction, RemapFailed, RemapPending}
	for _, c := range []struct {
		name            string
		before, after   Condition
		standing, began []string
	}{
		{"clean", Condition{}, Condition{}, nil, nil},
		{"no fault", Condition{}, Condition{LinksDown: 4, Throttle: []Throttle{ThrottleThermal}, ForeignBytes: 1 << 30}, nil, nil},
		{"everything begins", Condition{}, sick, all, append(slices.Clone(all), UncorrectedECC)},
		{"nothing new", sick, sick, all, nil},
		{"over", sick, Condition{}, nil, nil},
		{"errors grow", Condition{Uncorrected: 3}, Condition{Uncorrected: 4}, nil, []string{UncorrectedECC}},
		{"errors forgotten by a reload", Condition{Uncorrected: 3}, Condition{Uncorrected: 1}, nil, nil},
		{"another recovery", Condition{Recovery: RecoverDrain}, Condition{Recovery: RecoverReset}, []string{RecoveryAction}, []string{RecoveryAction}},
		{"the same recovery", Condition{Recovery: RecoverDrain}, Condition{Recovery: RecoverDrain}, []string{RecoveryAction}, nil},
		{"gone for another reason", Condition{Gone: "a"}, Condition{Gone: "b"}, []string{Gone}, nil},
	} {
		if got := names(c.after.Standing()); !slices.Equal(got, c.standing) {
			t.Errorf("%s: standing %v, want %v", c.name, got, c.standing)
		}
		if got := names(c.after.Began(c.before)); !slices.Equal(got, c.began) {
			t.Errorf("%s: began %v, want %v", c.name, got, c.began)
		}
	}
	if got := named(Gone); got.Meaning != "does not answer" {
		t.Errorf("the table was changed: %q", got.Meaning)
	}
}
