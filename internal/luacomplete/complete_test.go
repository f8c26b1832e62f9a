package luacomplete

import (
	"strings"
	"testing"
)

func typeOf(name string) string {
	return map[string]string{"vm": "vm", "provium": "lab", "lan": "bridge"}[name]
}

func TestNames(t *testing.T) {
	for line, want := range map[string]string{
		`vm:console():re`:          "vm:console():read vm:console():read_log",
		`x = vm:run("echo (x"):as`: `x = vm:run("echo (x"):assert_ok`,
		`print(vm:run("x").std`:    `print(vm:run("x").stderr print(vm:run("x").stdout`,
		`provium:vm("a", "host"):boot():disk("d"):po`: `provium:vm("a", "host"):boot():disk("d"):power_cut ` +
			`provium:vm("a", "host"):boot():disk("d"):power_on`,
		`lan:serve_dns{}:q`:                  "lan:serve_dns{}:queries",
		`vm:dmesg{le`:                        "vm:dmesg{level",
		`vm:dmesg({si`:                       "vm:dmesg({since",
		`vm:dmesg({`:                         "vm:dmesg({level vm:dmesg({since",
		`vm:dmesg({level = "err", `:          `vm:dmesg({level = "err", since`,
		`vm:run("x", {t`:                     `vm:run("x", {timeout vm:run("x", {timeout_ms`,
		`t = vm:run("a,b", {timeout = 1, ti`: `t = vm:run("a,b", {timeout = 1, timeout_ms`,
		`wait_until(f, {int`:                 "wait_until(f, {interval",
		`provium:vm("a", "host", {mem`:       `provium:vm("a", "host", {memory`,
		`vm:run("x", `:                       "",
		`other:console():`:                   "",
		`vm:nothing():`:                      "",
		`f({`:                                "",
		`{`:                                  "",
		`("x"):`:                             "",
		``:                                   "",
		`vm:run({`:                           "",
		strings.Repeat("(", maxLine) + "vm:console():": "",
	} {
		if got := strings.Join(Names(line, typeOf), " "); got != want {
			t.Errorf("%.60s\n got %s\nwant %s", line, got, want)
		}
	}
}

// Whatever a person types, names begin as the line does.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{`vm:console():re`, `vm:run("x", {t`, `provium:vm("a"`, "{{{{", "\"):"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, name := range Names(line, typeOf) {
			if !strings.HasPrefix(name, line) {
				t.Errorf("%q for %q", name, line)
			}
		}
	})
}
