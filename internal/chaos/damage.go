package chaos

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Damage flips one bit of a file in place, as a failing disk does: pick chooses which. An empty file
// cannot be damaged.
func Damage(path string, pick uint64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("damage: %w", err)
	}
	err = flip(file, pick)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("damage %s: %w", path, err)
	}
	return nil
}

func flip(file *os.File, pick uint64) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size == 0 {
		return errors.New("the file is empty")
	}
	bit := pick % (8 * uint64(size))
	var one [1]byte
	if _, err := file.ReadAt(one[:], int64(bit/8)); err != nil {
		return err
	}
	one[0] ^= 1 << (bit % 8)
	_, err = file.WriteAt(one[:], int64(bit/8))
	return err
}
