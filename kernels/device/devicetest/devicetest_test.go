package devicetest

import "testing"

// TestReferencePasses runs the suite on the reference. Its full size takes the reference a minute, so it is
// left to devices.
func TestReferencePasses(t *testing.T) {
	Run(t, NewReference(), Options{Exact: true, Quick: true})
}
