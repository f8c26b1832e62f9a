package wire

import "provium/internal/msgpack"

// Network configures the guest's network interfaces and its file of host names.
// Interfaces that it does not name are left alone.
type Network struct {
	Interfaces []Interface
	// Hosts goes into /etc/hosts in place of what the operation put there
	// before; everything else in the file stays. Resolver is the same for
	// /etc/resolv.conf, at the start of the file.
	Hosts    string
	Resolver string
	// Gone are the paths of devices that the guest is to forget: it removes them from
	// its bus. Those that are not there are left out.
	Gone []string
}

// Interface is one network interface. Its device may still be on its way: the
// agent waits for it until the operation is cancelled.
type Interface struct {
	// Path identifies it: device and function of each step on PCI from the
	// root bus, as in "1e.0/01.0".
	Path string
	Name string
	MAC  []byte // 6 bytes
	// Addresses are in the form ADDRESS/PREFIX. Those that the operation gave
	// before and are not among them are removed. Without any, the interface is
	// not even set up.
	Addresses []string
	// Routes are the networks that are reached by way of Gateways, of which each
	// is for its own version of IP. Those that the operation gave before and are
	// not among them are removed. Of equal ones of several interfaces the one with
	// the lowest Metric is used.
	Routes   []string
	Gateways []string
	Metric   uint64
}

// MaxInterfaces is the most interfaces of a Network.
const MaxInterfaces = 64

// Op is the operation's name.
func (*Network) Op() string { return "network" }

func (r *Network) fields(f *fields) {
	f.Key("interfaces")
	f.Buf = msgpack.AppendArrayHeader(f.Buf, len(r.Interfaces))
	for i := range r.Interfaces {
		f.Buf = r.Interfaces[i].append(f.Buf)
	}
	f.OptStr("hosts", r.Hosts)
	f.OptStr("resolver", r.Resolver)
	putStrings(f, "gone", r.Gone)
}

func (r *Network) field(d *decoder, key string) bool {
	switch key {
	case "interfaces":
		n := d.ArrayLen()
		if n > MaxInterfaces {
			d.Fail("%d interfaces, limit %d", n, MaxInterfaces)
		}
		for i := 0; i < n && d.OK(); i++ {
			r.Interfaces = append(r.Interfaces, d.netInterface())
		}
	case "hosts":
		r.Hosts = d.Str()
	case "resolver":
		r.Resolver = d.Str()
	case "gone":
		if r.Gone = d.Strs(); len(r.Gone) > MaxInterfaces {
			d.Fail("%d interfaces are gone, limit %d", len(r.Gone), MaxInterfaces)
		}
	default:
		return false
	}
	return true
}

func (i *Interface) append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Str("path", i.Path)
	f.Str("name", i.Name)
	f.Bin("mac", i.MAC)
	putStrings(&f, "addresses", i.Addresses)
	putStrings(&f, "routes", i.Routes)
	putStrings(&f, "gateways", i.Gateways)
	f.OptUint("metric", i.Metric)
	return f.Buf
}

func (d *decoder) netInterface() (i Interface) {
	d.EachField("interface", func(key string) bool {
		switch key {
		case "path":
			i.Path = d.Str()
		case "name":
			i.Name = d.Str()
		case "mac":
			if i.MAC = d.Bytes(); d.OK() && len(i.MAC) != 6 {
				d.Fail("hardware address of %d bytes", len(i.MAC))
			}
		case "addresses":
			i.Addresses = d.Strs()
		case "routes":
			i.Routes = d.Strs()
		case "gateways":
			i.Gateways = d.Strs()
		case "metric":
			i.Metric = d.Uint()
		default:
			return false
		}
		return true
	})
	return i
}
