package page

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"provium/internal/event"
	"provium/internal/terminal"
)

// testEvent takes events of tests, and of what happens in them.
func (b *Builder) testEvent(at float64, e event.Event) bool {
	switch e := e.(type) {
	case event.TestStarted:
		f := b.file(e.Path)
		t := &testOf{Name: clean(e.Name), Status: "unfinished", Start: at, Where: clean(e.Where),
			Tags: strs(e.Meta["tags"]), Spec: strs(e.Meta["spec"])}
		f.Tests = append(f.Tests, t)
		f.tests[e.Name], f.now, f.depth = t, t, 0
	case event.TestPassed:
		b.ended(e.Path, e.Name, "passed", e.DurationNS, "", e.Log, "")
	case event.TestFailed:
		b.ended(e.Path, e.Name, "failed", e.DurationNS, e.Reason, e.Log,
			terminal.WithoutRepeated(e.ConsoleExcerpt, e.Reason))
		if folder := b.link(e.Artifacts); folder != "" {
			b.file(e.Path).detail(e.Name).Folder = folder
		}
	case event.TestSkipped:
		b.ended(e.Path, e.Name, "skipped", 0, e.Reason, nil, "")
	case event.TestRetried:
		d := b.file(e.Path).detail(e.Name)
		d.Tries = append(d.Tries, &tryOf{span(e.DurationNS), clean(e.Reason)})
	case event.TestOutput:
		keepEnd(&b.file(e.Path).detail(e.Name).Output, e.Text)
	case event.TestAttachment:
		d, data := b.file(e.Path).detail(e.Name), e.Data
		if len(data) > maxAttach || uint64(len(data)) < e.Size || b.attached+len(data) > maxAttachs {
			data = nil
		}
		b.attached += len(data)
		d.Files = append(d.Files, &attachOf{clean(e.Attachment), e.Size, data})
	case event.StepStarted:
		f := b.file(e.Path)
		d := f.detail(e.Name)
		d.Steps = append(d.Steps, &stepOf{Name: clean(e.Step), Start: at, Ms: -1, Depth: f.depth})
		f.depth++
	case event.StepEnded:
		f := b.file(e.Path)
		f.depth = max(0, f.depth-1)
		steps := f.detail(e.Name).Steps
		for i := len(steps) - 1; i >= 0; i-- {
			if s := steps[i]; s.Name == clean(e.Step) && s.Ms < 0 {
				s.Ms, s.Failed = span(e.DurationNS), e.Failed
				break
			}
		}
	case event.OperationEnded:
		b.operation(e)
	case event.OperationStarted, event.TestLog:
	default:
		return false
	}
	return true
}

func (b *Builder) ended(path, name, status string, ns uint64, text string, log []string, console string) {
	f := b.file(path)
	t := f.tests[name]
	if t == nil { // a damaged stream
		t = &testOf{Name: clean(name), Start: b.at(b.last)}
		f.Tests = append(f.Tests, t)
		f.tests[name] = t
	}
	t.Status, t.Ms, t.Text = status, span(ns), clean(text)
	f.now = nil
	if len(log) > 0 || console != "" {
		d := f.detail(name)
		for _, entry := range log {
			d.Log = append(d.Log, clean(entry))
		}
		d.Console = clean(console)
	}
	if status == "passed" && t.Detail != nil && len(t.Detail.Tries) > 0 {
		t.Status = "flaky"
	}
}

// link returns a relative URL of a directory. It is empty for one that cannot be told from here.
func (b *Builder) link(dir string) string {
	if b.Dir == "" || !filepath.IsAbs(dir) {
		return ""
	}
	rel, err := filepath.Rel(b.Dir, dir)
	if err != nil {
		return ""
	}
	return (&url.URL{Path: filepath.ToSlash(rel) + "/"}).String()
}

func (b *Builder) operation(e event.OperationEnded) {
	d := b.file(e.Path).detail(e.Name)
	o := &opOf{Start: b.at(e.StartNS), Ms: span(e.DurationNS), VM: clean(e.VMName), Call: clean(e.Call),
		Where: clean(e.Where), Failed: e.Status == event.OperationFailed, Result: clean(e.Result),
		Output: clean(e.Output)}
	if len(d.Ops) < maxOps/2 {
		d.Ops = append(d.Ops, o)
		return
	}
	d.late = append(d.late, o)
	if len(d.late) > maxOps/2 {
		d.late = d.late[1:]
		d.OpsCut++
	}
}

// guestEvent takes events of guests, and of what is done to their world.
func (b *Builder) guestEvent(at float64, e event.Event) bool {
	switch e := e.(type) {
	case event.VMBootStarted:
		b.guest(e.File, e.VMName, at)
	case event.VMBootFailed:
		g := b.guest(e.File, e.VMName, at)
		g.Down, g.Reason = at, clean(e.Reason)
		delete(b.file(e.File).guests, e.VMName)
	case event.VMSpawned:
		g := b.guest(e.File, e.VMName, at)
		g.Up, g.Profile, g.Source = at, clean(e.Profile), clean(string(e.Source))
	case event.VMShutdown:
		g := b.guest(e.File, e.VMName, at)
		g.Down, g.Reason = at, clean(e.Reason)
		delete(b.file(e.File).guests, e.VMName)
	case event.ConsoleOutput:
		keepEnd(&b.guest(e.File, e.VMName, at).Console, e.Text)
	case event.KernelReport:
		b.file(e.File).mark(at, "kernel", e.VMName, e.Title)
	case event.NetworkChanged:
		b.file(e.Path).mark(at, "network", e.VMName, e.Call)
	case event.DiskChanged:
		b.file(e.Path).mark(at, "disk", e.VMName, e.Call)
	case event.ClockChanged:
		b.file(e.Path).mark(at, "clock", e.VMName, e.Call)
	case event.DiskFault:
		b.file(e.Path).mark(at, "fault", e.VMName, fmt.Sprintf("%s: %d × %s at sector %d: %s (%s)",
			e.Disk, e.Count, e.Op, e.Sector, e.Effect, e.Rule))
	default:
		return false
	}
	return true
}

// guest returns the present guest of a VM.
func (b *Builder) guest(file, vm string, at float64) *guestOf {
	f := b.file(file)
	g := f.guests[vm]
	if g == nil {
		g = &guestOf{VM: clean(vm), Begin: at, Up: -1, Down: -1}
		f.guests[vm] = g
		f.Guests = append(f.Guests, g)
	}
	return g
}

// strs are the strings of a value of a test's meta: one, several in an array, or several
// in one with spaces between them.
func strs(v any) []string {
	switch v := v.(type) {
	case string:
		return strings.Fields(clean(v))
	case []any:
		var all []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				all = append(all, clean(s))
			}
		}
		return all
	}
	return nil
}
