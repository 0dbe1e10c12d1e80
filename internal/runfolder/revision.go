package runfolder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// RevisionKey is the key of a revision of the run's config: 0 is what the run was submitted with, later ones are
// what it was changed to.
func RevisionKey(revision int) string {
	if revision == 0 {
		return ConfigKey
	}
	return fmt.Sprintf("configs/%06d.yaml", revision)
}

// Config reads a revision of the run's config; [blob.ErrNotFound] when there is none.
func (f *Folder) Config(ctx context.Context, revision int) ([]byte, error) {
	return f.Read(ctx, RevisionKey(revision))
}

// Revisions returns the numbers of the revisions after the first, ascending.
func (f *Folder) Revisions(ctx context.Context) ([]int, error) { return f.numbers(ctx, "configs/") }

// PutConfig writes a revision of the config once. Writing the same text again is fine; another text under a
// revision that exists is a [*RevisionError].
func (f *Folder) PutConfig(ctx context.Context, revision int, text []byte) error {
	var exists *blob.ExistsError
	_, err := f.Put(ctx, RevisionKey(revision), text)
	if errors.As(err, &exists) {
		if exists.Ref.Digest != blob.Digest(text) {
			return &RevisionError{Path: filepath.Join(f.Path, RevisionKey(revision)), Revision: revision}
		}
		return nil
	}
	return err
}

// RevisionError says that a revision of the config exists and is another one.
type RevisionError struct {
	Path     string
	Revision int
}

func (e *RevisionError) Error() string {
	return fmt.Sprintf("%s: revision %d of the config exists and is another one", e.Path, e.Revision)
}
