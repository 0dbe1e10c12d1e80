package nvml

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Read asks every board how it is, all at the same time. A board that was met before and does not answer, is not
// listed any more, or lost its driver is Gone; instances that its board no longer lists are forgotten.
func (s *source) Read(ctx context.Context) ([]gpu.Reading, error) {
	o, err := s.openings.join(0, s.look).wait(ctx, 0)
	if ctx.Err() != nil {
		return nil, unanswered(ctx.Err())
	}
	if err != nil {
		readings := s.gone(nil, err.Error())
		if len(readings) > 0 {
			err = nil // each of them says it
		}
		return readings, err
	}
	if o.count == 0 {
		return s.gone(nil, o.reason), nil
	}
	answers := each(ctx, &s.reports, o.count, func(i int) func() (report, error) {
		return during(s, func() (report, error) { return s.driver.read(i) })
	})
	var readings []gpu.Reading
	met := map[string]bool{}
	var failures []string
	for _, a := range answers {
		if a.err != nil {
			failures = append(failures, a.err.Error())
			continue
		}
		met[a.value.uuid] = true
		readings = append(readings, a.value.readings...)
		s.remember(a.value.uuid, named(a.value.readings))
	}
	if ctx.Err() != nil {
		return readings, unanswered(ctx.Err())
	}
	// A device that fails tells no UUID, so that what is missing is what failed.
	slices.Sort(failures)
	why := cmp.Or(strings.Join(slices.Compact(failures), "; "), unlisted)
	missing := s.gone(met, why)
	return append(readings, missing...), strangers(answers, len(missing))
}

// strangers are the failures when there are more of them than known devices are missing: devices that never
// told who they are.
func strangers(answers []answer[report], missing int) error {
	var failed []error
	for i, a := range answers {
		if a.err != nil {
			failed = append(failed, deviceError(i, len(answers), a.err))
		}
	}
	if len(failed) <= missing {
		return nil
	}
	return errors.Join(failed...)
}

func named(readings []gpu.Reading) []string {
	var out []string
	for _, r := range readings {
		out = append(out, r.UUID)
	}
	return out
}
