// Package blob keeps durable immutable objects under keys.
//
// An object is created once and never changed: [Store.Put] either makes the whole object durable or
// leaves nothing under the key, and a second Put of the key is refused with the object that is there.
// That makes an effect that may be tried several times happen once. A [Ref] carries the digest of
// what was written, and [Store.Get] returns nothing else.
//
// [Dir] is the store on a local file system. It also has the few operations that are not immutable
// and therefore not part of [Store]: replacing a small control object, appending to a log, removing
// expired weights, and locks. [Faulty] injects failures for tests.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Ref names an immutable object and what it holds.
type Ref struct {
	// Key is the object's place in its store: segments separated by slashes.
	Key string `json:"key"`
	// Digest is the object's SHA-256, written sha256:… in lower-case hexadecimal.
	Digest string `json:"digest"`
	// Size is the object's length in bytes.
	Size int64 `json:"size"`
}

// Store holds immutable objects. Methods may be called by many goroutines and processes at once.
type Store interface {
	// Put creates an object. It is durable when Put returns without an error. When the key exists,
	// with these bytes or others, the error is an [*ExistsError], which is [ErrExists].
	Put(ctx context.Context, key string, data []byte) (Ref, error)
	// Get returns the object's bytes. Bytes other than the ref's digest says are a [*CorruptError];
	// a missing object is [ErrNotFound].
	Get(ctx context.Context, ref Ref) ([]byte, error)
	// Stat returns the ref of the object under a key, computed from the bytes that are there now, or
	// [ErrNotFound].
	Stat(ctx context.Context, key string) (Ref, error)
	// List returns the keys that start with a prefix, sorted. "" lists everything. A key appears once
	// its object is whole.
	List(ctx context.Context, prefix string) ([]string, error)
}

var (
	// ErrExists is what creating an object under a taken key returns; see [ExistsError].
	ErrExists = errors.New("object exists")
	// ErrNotFound says that there is no object under a key.
	ErrNotFound = errors.New("no such object")
)

// ExistsError refuses to create an object under a taken key.
type ExistsError struct {
	// Ref is the object that is there. A caller that retries compares its digest with [Digest] of
	// what it meant to write.
	Ref Ref
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("object %q exists already (%s, %d bytes)", e.Ref.Key, e.Ref.Digest, e.Ref.Size)
}

// Is makes errors.Is(err, ErrExists) hold.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// CorruptError says that an object does not hold the bytes its ref names.
type CorruptError struct {
	Key string
	// Want is the ref's digest, Got that of the bytes found.
	Want, Got string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("object %q is corrupt: its digest is %s, want %s; restore it from a copy or remove what refers to it", e.Key, e.Got, e.Want)
}

// Digest returns the digest of bytes as a [Ref] writes it.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return formatDigest(sum[:])
}

const digestPrefix = "sha256:"

func formatDigest(sum []byte) string { return digestPrefix + hex.EncodeToString(sum) }

// CheckKey says why a key is not legal, or nil. A key is one or more segments separated by single
// slashes; a segment is valid UTF-8 of at most 200 bytes without control characters and backslashes,
// and does not start with a dot, which leaves room for a store's own files and excludes "..".
func CheckKey(key string) error {
	if key == "" {
		return errors.New("key is empty")
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("key %q is not valid UTF-8", key)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("key %q has an empty segment; write it without leading, trailing or double slashes", key)
		case segment[0] == '.':
			return fmt.Errorf("key %q has the segment %q, which starts with a dot", key, segment)
		case len(segment) > 200:
			return fmt.Errorf("key %q has a segment of %d bytes, at most 200 are allowed", key, len(segment))
		case strings.ContainsFunc(segment, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
			return fmt.Errorf("key %q has a control character or a backslash in it", key)
		}
	}
	return nil
}

func checkDigest(ref Ref) error {
	digits, ok := strings.CutPrefix(ref.Digest, digestPrefix)
	if raw, err := hex.DecodeString(digits); !ok || err != nil || len(raw) != sha256.Size || digits != strings.ToLower(digits) {
		return fmt.Errorf("ref of %q has digest %q, want %s and 64 lower-case hexadecimal digits", ref.Key, ref.Digest, digestPrefix)
	}
	return nil
}
