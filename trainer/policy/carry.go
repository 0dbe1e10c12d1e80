package policy

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/trainer/weights"
)

// FolderFiles names the files of a checkpoint's folder that this program reads or keeps, besides the
// weights. All but the first may be missing.
func FolderFiles() []string { return append([]string{configFile}, carriedFiles...) }

// CheckFolder reports what LoadFolder would refuse, without reading the weights themselves: it compares
// config.json with the headers of the weights' files.
func CheckFolder(dir string, o Options) error {
	c, _, err := readHubConfig(dir)
	if err != nil {
		return fmt.Errorf("load network: %w", err)
	}
	from, err := weights.Open(dir)
	if err != nil {
		return fmt.Errorf("load network: %w", err)
	}
	defer from.Close()
	layout, err := folderLayout(form{config: c, valueHead: o.ValueHead}, from)
	if err == nil {
		err = checkTensors(from, layout)
	}
	if err != nil {
		return fmt.Errorf("load network: %s: %w", dir, err)
	}
	return nil
}

// Carry takes over from a checkpoint's folder what SaveFolder writes besides the network, as LoadFolder
// does. It is for a network whose weights came another way.
func (m *Model) Carry(dir string) error {
	_, neutral, err := readHubConfig(dir)
	if err != nil {
		return fmt.Errorf("network's config: %w", err)
	}
	files, err := readCarried(dir)
	if err != nil {
		return fmt.Errorf("network's files: %w", err)
	}
	m.carried.neutral, m.carried.files = neutral, files
	return nil
}
