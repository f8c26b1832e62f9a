package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"provium/internal/arch"
	"provium/internal/machine"
	"provium/internal/qmp"
)

// testBinaries are the QEMUs to check against: the one on PATH, and the one that
// scripts/unpack-qemu has unpacked, if any.
func testBinaries(t *testing.T) []string {
	t.Helper()
	list := []string{arch.AMD64.QEMU}
	unpacked, err := filepath.Abs("../../dist/qemu-trixie/" + arch.AMD64.QEMU)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(unpacked); err == nil {
		list = append(list, unpacked)
	}
	return list
}

// schema is QEMU's own description of its monitor commands.
type schema map[string]schemaEntry

type schemaEntry struct {
	Name     string
	Meta     string `json:"meta-type"`
	Arg      string `json:"arg-type"`
	JSONType string `json:"json-type"`
	Element  string `json:"element-type"`
	Tag      string
	Values   []string
	Members  []struct {
		Name, Type string
		Default    json.RawMessage
	}
	Variants []struct{ Case, Type string }
}

// check returns how a value, as it goes over the connection, differs from the type of
// that name.
func (s schema) check(at, name string, value any) error {
	e := s[name]
	switch e.Meta {
	case "builtin":
		if got := jsonType(value); e.JSONType != "value" && got != e.JSONType {
			return fmt.Errorf("%s is a %s, QEMU expects %s", at, got, e.JSONType)
		}
		return nil
	case "enum":
		if text, ok := value.(string); !ok || !slices.Contains(e.Values, text) {
			return fmt.Errorf("%s is %v, QEMU expects one of %v", at, value, e.Values)
		}
		return nil
	case "array":
		list, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s is no array", at)
		}
		for _, v := range list {
			if err := s.check(at+"[]", e.Element, v); err != nil {
				return err
			}
		}
		return nil
	case "alternate":
		var last error
		for _, m := range e.Members {
			if last = s.check(at, m.Type, value); last == nil {
				return nil
			}
		}
		return last
	case "object":
		object, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", at)
		}
		return s.checkObject(at, e, object)
	}
	return fmt.Errorf("%s: unknown type %q", at, name)
}

func (s schema) checkObject(at string, e schemaEntry, object map[string]any) error {
	members := e.Members
	for _, v := range e.Variants {
		if v.Case == object[e.Tag] {
			members = append(slices.Clone(members), s[v.Type].Members...)
		}
	}
	for key, v := range object {
		i := slices.IndexFunc(members, func(m struct {
			Name, Type string
			Default    json.RawMessage
		}) bool {
			return m.Name == key
		})
		if i < 0 {
			return fmt.Errorf("QEMU knows no %s.%s", at, key)
		}
		if err := s.check(at+"."+key, members[i].Type, v); err != nil {
			return err
		}
	}
	for _, m := range members {
		if _, given := object[m.Name]; !given && m.Default == nil {
			return fmt.Errorf("%s.%s is missing", at, m.Name)
		}
	}
	return nil
}

func jsonType(v any) string {
	switch n := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if n == float64(int64(n)) {
			return "int"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// overTheWire returns a value as QEMU gets it.
func overTheWire(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// recorded is a monitor command that a machine has sent.
type recorded struct {
	Execute   string
	Arguments json.RawMessage
	ID        string
}

// recordCommands has every command of a monitor sent to an end that accepts it, and
// returns what came.
func recordCommands(t *testing.T, send func(m monitor)) []recorded {
	t.Helper()
	ours, theirs := net.Pipe()
	list := make(chan []recorded, 1)
	go func() {
		defer theirs.Close()
		var all []recorded
		defer func() { list <- all }()
		_, _ = theirs.Write([]byte(`{"QMP":{"version":{"qemu":{}}}}` + "\n"))
		for d := json.NewDecoder(theirs); ; {
			var c recorded
			if d.Decode(&c) != nil {
				return
			}
			all = append(all, c)
			result := "{}"
			switch c.Execute {
			case "query-chardev", "query-pci":
				result = "[]"
			case "human-monitor-command":
				result = `""`
			}
			fmt.Fprintf(theirs, `{"return":%s,"id":"%s"}`+"\n", result, c.ID)
		}
	}()
	client, err := qmp.Connect(t.Context(), ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	send(monitor{client})
	client.Close()
	return <-list
}

// everyCommand sends each command that a machine can send.
func everyCommand(t *testing.T) func(m monitor) {
	return func(m monitor) {
		ctx := t.Context()
		must := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		nic, disk := everyNIC(), everyDisk()
		for _, name := range []string{"stop", "cont", "system_reset", "system_powerdown", "system_wakeup"} {
			must(m.run(ctx, name))
		}
		must(m.netdevAdd(ctx, nic.backend()))
		must(m.deviceAdd(ctx, nic.device("pcie.0")))
		must(m.setLink(ctx, nic.ID(), true))
		must(m.deviceDel(ctx, nic.ID()))
		must(m.netdevDel(ctx, nic.netdev()))
		must(m.blockdevAdd(ctx, disk.backend("")))
		must(m.deviceAdd(ctx, disk.frontend()))
		must(m.setDrive(ctx, disk.device(), disk.node()))
		must(m.blockResize(ctx, disk.node(), 1<<20))
		must(m.blockdevDel(ctx, disk.node()))
		must(m.all(ctx, stateCapabilities(), setAnnounceRounds(0)))
		must(m.migrate(ctx, "unix:/s"))
		must(m.all(ctx, migrateIncoming("fd:3")))
		must(m.saveDevices(ctx, "/s"))
		must(m.screenDump(ctx, displayID, "/s"))
		must(m.saveMemory(ctx, 1<<32, 1, "/s"))
		must(m.sendKey(ctx, "bracket_left", true))
		var buses []pciBus
		must(m.all(ctx, queryPCI(&buses)))
		var ports []chardev
		err := m.all(ctx, queryChardevs(&ports))
		must(err)
		_, err = m.status(ctx)
		must(err)
		_, err = m.hmp(ctx, "info version")
		must(err)
	}
}

func everyNIC() NIC { return NIC{Slot: 1, MAC: "02:00:00:00:00:01", Socket: "/s"} }

func everyDisk() Disk {
	return Disk{Slot: 1, Socket: "/s", Serial: "s", Model: DiskModel{LogicalBlock: 4096, NoWriteCache: true}}
}

// startBare starts a QEMU without a machine, which describes itself.
func startBare(t *testing.T, binary string) *qmp.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	socket := filepath.Join(t.TempDir(), "q")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.CommandContext(ctx, binary, "-machine", "none", "-nodefaults", "-display", "none",
		"-chardev", "socket,id=q,path="+socket, "-mon", "chardev=q,mode=control")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	client, err := qmp.Connect(ctx, conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// TestEveryArgumentHasQEMUsType compares all monitor commands, devices and objects with
// what the QEMUs say about themselves.
func TestEveryArgumentHasQEMUsType(t *testing.T) {
	commands := recordCommands(t, everyCommand(t))
	for _, binary := range testBinaries(t) {
		q := startBare(t, binary)
		t.Run(q.Version(), func(t *testing.T) {
			var entries []schemaEntry
			if err := q.Execute(t.Context(), "query-qmp-schema", nil, &entries); err != nil {
				t.Fatal(err)
			}
			s := schema{}
			for _, e := range entries {
				s[e.Name] = e
			}
			for _, c := range commands {
				command, ok := s[c.Execute]
				if !ok {
					t.Errorf("no command %s", c.Execute)
					continue
				}
				var args any = map[string]any{}
				if c.Arguments != nil {
					args = overTheWire(t, c.Arguments)
				}
				if c.Execute == "device_add" {
					checkDevice(t, q, args.(map[string]any))
				} else if err := s.check(c.Execute, command.Arg, args); err != nil {
					t.Error(err)
				}
			}
			for _, object := range []any{
				memoryObject{Type: "memory-backend-file", ID: "ram", Size: 1, Path: "/s", Share: true},
				rngObject{Type: "rng-egd", ID: "r", Chardev: "c"},
				rngObject{Type: "rng-random", ID: "r", File: "/dev/urandom"},
			} {
				if err := s.check("object-add", s["object-add"].Arg, overTheWire(t, object)); err != nil {
					t.Error(err)
				}
			}
			for _, kind := range []string{"q35", "pc"} {
				display := true
				c := Config{Machine: kind, NICs: []NIC{everyNIC()}, Disks: []Disk{everyDisk()},
					Vsock: true, Shape: machine.Shape{Display: &display}}
				checkDevice(t, q, overTheWire(t, c.vsockDevice(fds{vsock: 9, cid: 3})).(map[string]any))
				for _, d := range c.devices() {
					checkDevice(t, q, overTheWire(t, d).(map[string]any))
				}
			}
		})
	}
}

// checkDevice compares a device with the properties that QEMU lists for it.
func checkDevice(t *testing.T, q *qmp.Client, device map[string]any) {
	t.Helper()
	driver, _ := device["driver"].(string)
	var properties []struct{ Name, Type string }
	err := q.Execute(t.Context(), "device-list-properties", map[string]string{"typename": driver}, &properties)
	if err != nil {
		t.Errorf("%s: %v", driver, err)
		return
	}
	types := map[string]string{"driver": "str", "id": "str", "bus": "str"}
	for _, p := range properties {
		types[p.Name] = p.Type
	}
	for name, v := range device {
		kind, ok := types[name]
		want := "string"
		switch {
		case !ok:
			t.Errorf("%s has no property %s", driver, name)
			continue
		case name == "addr": // a number, or the text that PCI addresses have
		case kind == "bool":
			want = "boolean"
		case strings.HasPrefix(kind, "size") || strings.HasPrefix(kind, "uint") || strings.HasPrefix(kind, "int"):
			want = "int"
		}
		if got := jsonType(v); got != want {
			t.Errorf("%s.%s is a %s, QEMU expects %s (%s)", driver, name, got, want, kind)
		}
	}
}

// TestOnlyOneFileSendsCommands finds commands whose arguments no test would check.
func TestOnlyOneFileSendsCommands(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if f != "commands.go" && !strings.HasSuffix(f, "_test.go") && strings.Contains(string(text), ".Execute(") {
			t.Errorf("%s sends a command: move it to commands.go", f)
		}
	}
}
