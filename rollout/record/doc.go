// Package record is the form of experience on disk: a line of JSON for other tools to read and
// write, and a denser binary segment for a run's own storage. Both hold exactly one [rollout.Group].
//
// The JSON form is turnwise.group/v1, one group a line ([WriteGroup], [Reader]); a segment is made by
// [EncodeSegment]. Both directions of both forms check the group with [Validate], so whatever was
// written can be trained on, and what cannot is refused with an error that names the place.
//
// Texts are UTF-8: a byte a policy sampled that is no part of a character becomes U+FFFD in them.
// The token ids, which are what is trained on, are exact. Empty maps and lists read back as nil.
package record
