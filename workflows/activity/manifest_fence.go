package activity

// ManifestFence is the smallest fencing token that a manifest holds which was committed under a lease with a fence.
// Manifests under later leases hold larger ones.
func ManifestFence(fence int) int { return fence << attemptBits }
