package runfolder

import (
	"context"
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// SetAside moves an object that is not what its reference says out of the way, to corrupt/, so that it can be made
// again under its key. It returns where the object went; "" when there was nothing to move: the key is free, or what
// is there is right. A reference without a digest moves whatever is there.
func (f *Folder) SetAside(ctx context.Context, ref blob.Ref) (place string, err error) {
	unlock, err := f.Lock(ctx, "corrupt.lock") // two that met the same object move it once
	if err != nil {
		return "", err
	}
	defer unlock()
	found, err := f.Stat(ctx, ref.Key)
	if errors.Is(err, blob.ErrNotFound) || err == nil && found.Digest == ref.Digest {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for number := 1; ; number++ {
		place = fmt.Sprintf("corrupt/%s.%d", ref.Key, number)
		if err := f.Move(ctx, ref.Key, place); !errors.Is(err, blob.ErrExists) {
			return place, err
		}
	}
}
