package byhand

import "strings"

// hostOnly are the variables that say something about the host, or which programs and
// libraries are found there. The guest has its own.
var hostOnly = map[string]bool{
	"PATH": true, "HOME": true, "PWD": true, "OLDPWD": true, "SHELL": true, "SHLVL": true, "_": true,
	"USER": true, "LOGNAME": true, "MAIL": true, "HOSTNAME": true, "TMPDIR": true, "TERMCAP": true,
	"LANG": true, "LANGUAGE": true, "DISPLAY": true, "WAYLAND_DISPLAY": true, "XAUTHORITY": true,
	"TMUX": true, "TMUX_PANE": true, "STY": true, "GPG_AGENT_INFO": true, "GPG_TTY": true,
	"LS_COLORS": true, "COLUMNS": true, "LINES": true, "MANPATH": true, "INFOPATH": true,
}

// hostPrefixes are the beginnings of such names.
var hostPrefixes = []string{"LD_", "LC_", "XDG_", "DBUS_", "SSH_", "SUDO_", "SYSTEMD_", "BASH_FUNC_"}

// environment returns the variables of the host that a command in the guest gets beside
// those that the guest gives it.
func environment(host []string) map[string]string {
	out := map[string]string{}
next:
	for _, kv := range host {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || hostOnly[name] {
			continue
		}
		for _, prefix := range hostPrefixes {
			if strings.HasPrefix(name, prefix) {
				continue next
			}
		}
		out[name] = value
	}
	return out
}
