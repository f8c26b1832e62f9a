package registers

import (
	"strings"
	"testing"
)

const twoCPUs = "\r\nCPU#0\r\nRAX=0000000000000001 RBX=0000000000000002 RCX=0 RDX=0\r\n" +
	"R8 =0000000000044000 R9 =ff2e5deb811bacd0 R10=0000000000000000 R11=0000000000000000\r\n" +
	"RIP=ffffffff81dc2a1e RFL=00040206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n" +
	"ES =0000 0000000000000000 ffffffff 00000000\r\nCS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\r\n" +
	"FS =0000 00007f1c53b5a868 ffffffff 00c00000\r\n" +
	"CR0=80050033 CR2=00007f9115162000 CR3=0000000014180000 CR4=00751eb0\r\n" +
	"FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80\r\nXMM00=0000000000000000 0000000000000000\r\n" +
	"\r\nCPU#1\r\nRIP=ffffffff81dd0000 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\nCR3=1\r\n" +
	"\r\nCPU#2\r\nEAX=00000000 EBX=00000000\r\nEIP=0000fff0 EFL=00000002 [-------] CPL=0\r\n"

func TestParse(t *testing.T) {
	cpus := Parse(twoCPUs)
	if len(cpus) != 2 {
		t.Fatalf("%+v", cpus)
	}
	for name, want := range map[string]uint64{"RAX": 1, "R8": 0x44000, "R9": 0xff2e5deb811bacd0,
		"RIP": 0xffffffff81dc2a1e, "RFL": 0x40206, "CS": 0x10, "FS.base": 0x7f1c53b5a868, "CR3": 0x14180000, "HLT": 0} {
		if got, ok := cpus[0].Registers[name]; !ok || got != want {
			t.Errorf("%s is %#x", name, got)
		}
	}
	if text := cpus[0].Text; !strings.HasPrefix(text, "RAX=") || strings.Contains(text, "XMM") ||
		strings.Contains(text, "\r") {
		t.Errorf("%q", text)
	}
	if halted, forEver := cpus[0].IsHalted(); halted || forEver {
		t.Error("CPU 0 is halted")
	}
	if halted, forEver := cpus[1].IsHalted(); !halted || !forEver || cpus[1].Number != 1 {
		t.Error("CPU 1 is not halted")
	}
}

func FuzzParseRegisters(f *testing.F) {
	f.Add(twoCPUs)
	f.Add("CPU#0\nRIP=1 CPU#\nCPU#-1\nRIP=2")
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range Parse(text) {
			if c.Number < 0 || len(c.Text) > len(text) {
				t.Errorf("%+v", c)
			}
		}
	})
}
