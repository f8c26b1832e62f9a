package qemu

import (
	"context"

	"provium/internal/qmp"
)

// monitor has every command of QEMU's monitor that a machine uses, with arguments of
// the types that QEMU has for them. Nothing else calls Execute or Pipeline.
type monitor struct{ client *qmp.Client }

// all carries out commands that are sent at once.
func (m monitor) all(ctx context.Context, commands ...qmp.Command) error {
	return m.client.Pipeline(ctx, commands...)
}

// run carries out a command without arguments and without a result.
func (m monitor) run(ctx context.Context, command string) error {
	return m.client.Execute(ctx, command, nil, nil)
}

// actions are what QEMU does when a guest resets its machine, or powers it off.
type actions struct {
	Reboot   string `json:"reboot"`
	Shutdown string `json:"shutdown"`
}

// setAction is the command that sets whether the machine stands still where the guest ends.
func setAction(hold bool) qmp.Command {
	a := actions{Reboot: "reset", Shutdown: "poweroff"}
	if hold {
		a = actions{Reboot: "shutdown", Shutdown: "pause"}
	}
	return qmp.Command{Name: "set-action", Arguments: a}
}

type idArguments struct {
	ID string `json:"id"`
}

type nodeArguments struct {
	Node string `json:"node-name"`
}

func (m monitor) deviceAdd(ctx context.Context, device any) error {
	return m.client.Execute(ctx, "device_add", device, nil)
}

func (m monitor) deviceDel(ctx context.Context, id string) error {
	return m.client.Execute(ctx, "device_del", idArguments{id}, nil)
}

func (m monitor) netdevAdd(ctx context.Context, b netBackend) error {
	return m.client.Execute(ctx, "netdev_add", b, nil)
}

func (m monitor) netdevDel(ctx context.Context, id string) error {
	return m.client.Execute(ctx, "netdev_del", idArguments{id}, nil)
}

type linkArguments struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
}

func (m monitor) setLink(ctx context.Context, device string, up bool) error {
	return m.client.Execute(ctx, "set_link", linkArguments{device, up}, nil)
}

func (m monitor) blockdevAdd(ctx context.Context, b blockBackend) error {
	return m.client.Execute(ctx, "blockdev-add", b, nil)
}

func (m monitor) blockdevDel(ctx context.Context, node string) error {
	return m.client.Execute(ctx, "blockdev-del", nodeArguments{node}, nil)
}

type resizeArguments struct {
	Node string `json:"node-name"`
	Size int64  `json:"size"`
}

func (m monitor) blockResize(ctx context.Context, node string, size int64) error {
	return m.client.Execute(ctx, "block_resize", resizeArguments{node, size}, nil)
}

type driveArguments struct {
	Path     string `json:"path"`
	Property string `json:"property"`
	Value    string `json:"value"`
}

// setDrive connects the device of that name to other contents.
func (m monitor) setDrive(ctx context.Context, device, node string) error {
	return m.client.Execute(ctx, "qom-set", driveArguments{"/machine/peripheral/" + device, "drive", node}, nil)
}

type capability struct {
	Name  string `json:"capability"`
	State bool   `json:"state"`
}

type capabilityArguments struct {
	Capabilities []capability `json:"capabilities"`
}

// setCapabilities is the command that turns these on.
func setCapabilities(names ...string) qmp.Command {
	var a capabilityArguments
	for _, name := range names {
		a.Capabilities = append(a.Capabilities, capability{name, true})
	}
	return qmp.Command{Name: "migrate-set-capabilities", Arguments: a}
}

type migrationArguments struct {
	AnnounceRounds int `json:"announce-rounds"`
}

func setAnnounceRounds(rounds int) qmp.Command {
	return qmp.Command{Name: "migrate-set-parameters", Arguments: migrationArguments{rounds}}
}

type uriArguments struct {
	URI string `json:"uri"`
}

func (m monitor) migrate(ctx context.Context, uri string) error {
	return m.client.Execute(ctx, "migrate", uriArguments{uri}, nil)
}

// migrateIncoming is the command that begins to load a state.
func migrateIncoming(uri string) qmp.Command {
	return qmp.Command{Name: "migrate-incoming", Arguments: uriArguments{uri}}
}

type saveArguments struct {
	Filename string `json:"filename"`
	Live     bool   `json:"live"`
}

// saveDevices saves the state of everything but RAM. Without live=false QEMU would give
// up its disks, and abort at the next save.
func (m monitor) saveDevices(ctx context.Context, path string) error {
	return m.client.Execute(ctx, "xen-save-devices-state", saveArguments{path, false}, nil)
}

type dumpArguments struct {
	Filename string `json:"filename"`
	Device   string `json:"device"`
}

// screenDump writes what a display shows to a file, as a portable pixmap.
func (m monitor) screenDump(ctx context.Context, device, path string) error {
	return m.client.Execute(ctx, "screendump", dumpArguments{path, device}, nil)
}

type memoryArguments struct {
	Address  int64  `json:"val"`
	Size     int64  `json:"size"`
	Filename string `json:"filename"`
}

// saveMemory writes memory at the address of the guest's bus to a file.
func (m monitor) saveMemory(ctx context.Context, address, size int64, path string) error {
	return m.client.Execute(ctx, "pmemsave", memoryArguments{address, size, path}, nil)
}

type keyCode struct {
	Type string `json:"type"` // qcode
	Data string `json:"data"`
}

type keyState struct {
	Down bool    `json:"down"`
	Key  keyCode `json:"key"`
}

type inputEvent struct {
	Type string   `json:"type"` // key
	Data keyState `json:"data"`
}

type inputArguments struct {
	Events []inputEvent `json:"events"`
}

// sendKey presses or releases a key.
func (m monitor) sendKey(ctx context.Context, name string, down bool) error {
	key := keyState{down, keyCode{"qcode", name}}
	return m.client.Execute(ctx, "input-send-event", inputArguments{[]inputEvent{{"key", key}}}, nil)
}

// chardev is a connection of QEMU's as `query-chardev` describes it.
type chardev struct {
	Label    string `json:"label"`
	Filename string `json:"filename"`
}

func queryChardevs(out *[]chardev) qmp.Command { return qmp.Command{Name: "query-chardev", Out: out} }

// status is the run state.
func (m monitor) status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := m.client.Execute(ctx, "query-status", nil, &s)
	return s.Status, err
}

type hmpArguments struct {
	CommandLine string `json:"command-line"`
}

// hmp carries out a command of the monitor for people, where the other one has none,
// and returns what it prints.
func (m monitor) hmp(ctx context.Context, command string) (text string, err error) {
	err = m.all(ctx, hmp(command, &text))
	return text, err
}

func hmp(command string, out *string) qmp.Command {
	return qmp.Command{Name: "human-monitor-command", Arguments: hmpArguments{command}, Out: out}
}
