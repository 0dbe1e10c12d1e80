package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is one of the files of a tenure.
type File struct {
	Tenure int
	Path   string
}

// Files lists the files of all tenures, by tenure and in the order they were begun. A folder that is not
// there has none.
func Files(dir string) ([]File, error) {
	parts, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("list the turns of %s: %w", dir, err)
	}
	files := make([]File, len(parts))
	for i, p := range parts {
		files[i] = File{p.tenure, filepath.Join(dir, p.name())}
	}
	return files, nil
}

// Entry is one record of a tenure: exactly one of the three is set.
type Entry struct {
	Begin  *Begin
	Turn   *Turn
	Failed *Failed
}

// Entries hands every whole entry of the file to each, in order: what a bystander sees of a loop that may
// be at work. Damage comes as an error that holds a [DamagedError] for each place. A file that is gone
// has no entries.
func (f File) Entries(each func(Entry)) error {
	data, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var damage []error
	for _, place := range scan(f.Path, data, func(e entry) { each(Entry{e.begin, e.turn, e.failed}) }) {
		damage = append(damage, place)
	}
	return errors.Join(damage...)
}
