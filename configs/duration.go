package configs

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"
)

func (d *decoder) duration(path string, n *node, v reflect.Value, limits bounds) {
	if n.kind != scalarNode {
		d.wrongType(n, path, durationType)
		return
	}
	parsed, err := time.ParseDuration(n.text)
	switch {
	case err != nil && endless(n.text) && limits.longest > 0:
		d.fail(n, path, limits.refuseDuration(0, n.text))
	case err != nil && looksNumeric(n.text):
		d.fail(n, path, fmt.Sprintf("%s has no unit: write %ss, %sm or %sms", n.text, n.text, n.text, n.text))
	case err != nil:
		d.wrongType(n, path, durationType)
	case limits.refuseDuration(parsed, n.text) != "":
		d.fail(n, path, limits.refuseDuration(parsed, n.text))
	case parsed <= 0:
		d.fail(n, path, fmt.Sprintf("%s is too small: a duration is greater than 0", n.text))
	default:
		v.SetInt(int64(parsed))
	}
}

var durationPattern = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`)

// endless reports spellings of no limit at all that are no duration: infinity, a negative number
// without a unit, a word for it, or a duration beyond what 64 bits hold.
func endless(text string) bool {
	switch strings.ToLower(text) {
	case "never", "none", "off", "false", "forever", "unlimited", "infinite":
		return true
	}
	return isInfinite(text) || strings.HasPrefix(text, "-") && looksNumeric(text) || durationPattern.MatchString(text)
}

// refuseDuration says why a limited duration is out of bounds, "" when it is not or has no limit.
func (b bounds) refuseDuration(d time.Duration, written string) string {
	if b.longest == 0 || d > 0 && d <= b.longest {
		return ""
	}
	return fmt.Sprintf("%s where a time above 0 and up to %s is wanted, typically %s: nothing may wait for ever", shorten(written), shortDuration(b.longest), shortDuration(b.typical))
}

// shortDuration writes 5m for what time.Duration writes 5m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
