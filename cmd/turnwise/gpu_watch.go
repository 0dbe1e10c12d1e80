package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// gpuInterval is how often `gpu -w` looks: agents write their readings down about as often.
const gpuInterval = 2 * time.Second

// mostHistory is how many looks the bars of a device's load go back.
const mostHistory = 16

// watch shows devices until ctx ends.
func (d *desk) watch(ctx context.Context) error {
	ticker := time.NewTicker(gpuInterval)
	defer ticker.Stop()
	show := d.newDeviceView()
	for {
		f, err := d.list(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := show.draw(f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// deviceView shows devices again and again.
type deviceView interface{ draw(deviceList) error }

func (d *desk) newDeviceView() deviceView {
	if _, ok := screen(d.app.out); ok && !d.app.json() {
		return &deviceScreen{out: d.app.out, history: map[string][]float64{}}
	}
	return &deviceLines{app: d.app, shown: map[string]string{}}
}

// deviceScreen redraws the table in place, with bars of each device's load.
type deviceScreen struct {
	out     io.Writer
	drawn   int
	history map[string][]float64
}

func (v *deviceScreen) draw(f deviceList) error {
	for i, row := range f.Devices {
		if row.Utilization != nil {
			loads := append(v.history[row.UUID], *row.Utilization)
			v.history[row.UUID] = loads[max(0, len(loads)-mostHistory):]
		}
		f.Devices[i].history = v.history[row.UUID]
	}
	width, _ := screen(v.out)
	var text strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", v.drawn)
	}
	lines := strings.Split(strings.TrimRight(f.text(), "\n"), "\n")
	lines = append(lines, f.now.Local().Format(time.TimeOnly)+"  Ctrl-C leaves")
	for _, line := range lines {
		fmt.Fprintf(&text, "\r\x1b[2K%s\n", clip(line, width))
	}
	text.WriteString("\x1b[J") // what is left of a longer table
	v.drawn = len(lines)
	_, err := io.WriteString(v.out, text.String())
	return err
}

// deviceLines prints a line for each device when its health or its holders change: load and heat always change, and
// are no news. For a program it prints all devices as an object then.
type deviceLines struct {
	app   *app
	shown map[string]string
}

func (v *deviceLines) draw(f deviceList) error {
	width := f.uuidWidth()
	seen, changed := map[string]bool{}, []string(nil)
	at := f.now.Local().Format(time.TimeOnly)
	for _, row := range f.Devices {
		seen[row.UUID] = true
		news := strings.Join([]string{row.healthText(), row.Why, row.holders()}, "\n")
		if v.shown[row.UUID] == news {
			continue
		}
		v.shown[row.UUID] = news
		cells := append([]string{at, row.Host}, row.cells(width)...)
		if row.Why != "" {
			cells = append(cells, row.Why)
		}
		changed = append(changed, strings.Join(cells, "  "))
	}
	for uuid := range v.shown {
		if !seen[uuid] {
			delete(v.shown, uuid)
			changed = append(changed, fmt.Sprintf("%s  %s is no device any more", at, uuid))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if v.app.json() {
		return v.app.printJSON(f)
	}
	for _, line := range changed {
		v.app.print("%s\n", line)
	}
	return nil
}
