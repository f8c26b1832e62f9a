// Package browsertest drives a headless Chromium, for tests of pages. It knows no page. Start with Open.
package browsertest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Browser is a headless Chromium, driven over the pipes of its DevTools protocol.
type Browser struct {
	t       testing.TB
	to      *os.File
	from    *bufio.Reader
	last    int
	session string
	errors  []string
}

// Open starts Chromium, which ends with the test. It skips the test on a machine without it.
func Open(t testing.TB) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed, which this test drives")
	}
	if testing.Short() {
		t.Skip("a browser takes seconds to start")
	}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
		"--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{in, out} // its descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	stop := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() }) // a browser that hangs
	b := &Browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.Call("Browser.close", nil)
		to.Close()
		from.Close()
		_ = cmd.Wait()
		stop.Stop()
	})
	var targets struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	b.read(b.Call("Target.getTargets", nil), &targets)
	for _, target := range targets.TargetInfos {
		if target.Type == "page" {
			var attached struct{ SessionID string }
			to := map[string]any{"targetId": target.TargetID, "flatten": true}
			b.read(b.Call("Target.attachToTarget", to), &attached)
			b.session = attached.SessionID
		}
	}
	if b.session == "" {
		t.Fatalf("no page in %+v", targets)
	}
	b.Call("Runtime.enable", nil)
	b.Call("Log.enable", nil)
	return b
}

// Call sends a command to the browser and returns its answer.
func (b *Browser) Call(method string, params any) json.RawMessage {
	b.t.Helper()
	answer, err := b.try(method, params)
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	return answer
}

// refused is the browser's answer to a command that it does not carry out.
type refused struct{ Message string }

func (r *refused) Error() string { return r.Message }

// try is Call for a command that may fail.
func (b *Browser) try(method string, params any) (json.RawMessage, error) {
	b.last++
	request := map[string]any{"id": b.last, "method": method, "params": params}
	if params == nil {
		delete(request, "params")
	}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	text, err := json.Marshal(request)
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	for err == nil {
		var answer struct {
			ID     int
			Method string
			Params complaint
			Result json.RawMessage
			Error  *refused
		}
		if text, err = b.from.ReadBytes(0); err != nil {
			break
		}
		if err = json.Unmarshal(text[:len(text)-1], &answer); err != nil {
			break
		}
		b.note(answer.Method, answer.Params)
		if answer.ID == b.last {
			if answer.Error != nil {
				return nil, answer.Error
			}
			return answer.Result, nil
		}
	}
	return nil, err
}

// complaint is what the browser says of a page that it finds wrong.
type complaint struct {
	ExceptionDetails struct {
		Text, URL string
		Exception struct{ Description string }
	}
	Entry struct{ Level, Text, URL string }
}

// note keeps what the browser complains about.
func (b *Browser) note(method string, c complaint) {
	switch d := c.ExceptionDetails; {
	case method == "Runtime.exceptionThrown":
		b.errors = append(b.errors, fmt.Sprintf("%s: %s %s", d.URL, d.Text, d.Exception.Description))
	case method == "Log.entryAdded" && c.Entry.Level == "error":
		b.errors = append(b.errors, fmt.Sprintf("%s: %s", c.Entry.URL, c.Entry.Text))
	}
}

// Errors returns, once, what the browser has found wrong with the pages: scripts that failed and files that
// were not there.
func (b *Browser) Errors() []string {
	b.t.Helper()
	b.Eval("0") // what was found before its answer has arrived with it
	found := b.errors
	b.errors = nil
	return found
}

func (b *Browser) read(answer json.RawMessage, into any) {
	b.t.Helper()
	if err := json.Unmarshal(answer, into); err != nil {
		b.t.Fatalf("%v: %s", err, answer)
	}
}

// Eval returns what a JavaScript expression is, as a text. It waits for promises.
func (b *Browser) Eval(expression string) string {
	b.t.Helper()
	got, err := b.evaluate(expression)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return got
}

func (b *Browser) evaluate(expression string) (string, error) {
	answer, err := b.try("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true,
		"returnByValue": true})
	if err != nil {
		return "", err
	}
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return "", err
	}
	if got.ExceptionDetails != nil {
		return "", &refused{fmt.Sprint(got.ExceptionDetails)}
	}
	return fmt.Sprint(got.Result.Value), nil
}

// Press types keys.
func (b *Browser) Press(keys ...string) {
	b.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38,
		"ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36}
	for _, key := range keys {
		shift := 0
		if key == "Shift+Tab" {
			key, shift = "Tab", 8
		}
		down := map[string]any{"type": "rawKeyDown", "key": key, "windowsVirtualKeyCode": codes[key],
			"modifiers": shift}
		switch {
		case key == "Enter":
			down["type"], down["text"] = "keyDown", "\r"
		case len(key) == 1:
			down["type"], down["text"] = "keyDown", key
		}
		b.Call("Input.dispatchKeyEvent", down)
		b.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key,
			"windowsVirtualKeyCode": codes[key], "modifiers": shift})
	}
}

// Want compares what an expression is.
func (b *Browser) Want(what, expression, want string) {
	b.t.Helper()
	if got := b.Eval(expression); got != want {
		b.t.Errorf("%s: %s is %s, want %s", what, expression, got, want)
	}
}

// Show opens an address in a window of that width, light or dark, and waits until it is loaded.
func (b *Browser) Show(address string, width int, scheme string) {
	b.t.Helper()
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800,
		"deviceScaleFactor": 1, "mobile": false})
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []any{
		map[string]string{"name": "prefers-color-scheme", "value": scheme},
		map[string]string{"name": "prefers-reduced-motion", "value": "reduce"}}})
	b.Call("Page.navigate", map[string]any{"url": address})
	b.Await(`document.readyState === "complete" && document.title !== ""`)
}

// Await waits until an expression is true, also on a page that comes only then. It has 20 s.
func (b *Browser) Await(expression string) {
	b.t.Helper()
	look := `new Promise((done) => { let left = 20;
		const look = () => (` + expression + `) ? done("yes") : left-- ? setTimeout(look, 5) : done("no"); look(); })`
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		got, err := b.evaluate(look)
		var gone *refused // the page, for the next one
		if err != nil && !errors.As(err, &gone) {
			b.t.Fatalf("%s: %v", expression, err)
		}
		if got == "yes" {
			return
		}
	}
	b.t.Fatalf("it does not come: %s", expression)
}

// Focused is an expression that describes the element with the focus.
const Focused = `(() => { const e = document.activeElement;
  return e.id || e.className || e.tagName + " " + e.textContent.slice(0, 20).trim(); })()`

// FocusShows is an expression that reports whether the focus shows: an outline that differs from the
// background, on an element within the window.
const FocusShows = `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
  return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 &&
    s.outlineColor !== getComputedStyle(document.body).backgroundColor &&
    r.bottom > 0 && r.top < innerHeight && r.right > 0 && r.left < innerWidth; })()`
