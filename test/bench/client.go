package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"audit_s3/test/rig"
)

// load is POSTs as they go over the wire, made before the clock runs: the client
// shares the machine with what is measured and should take little of it.
type load struct {
	requests [][]byte
	events   int64
	bytes    int64 // of the bodies
}

// add appends a POST of an EventList.
func (l *load) add(list []byte, events int) {
	request := fmt.Appendf(make([]byte, 0, len(list)+128), "POST /node_1 HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(list))
	l.requests = append(l.requests, append(request, list...))
	l.events += int64(events)
	l.bytes += int64(len(list))
}

// newLoad makes n events of a day, with IDs and times of their own, in lists.
func newLoad(day *rig.Day, n int64) *load {
	l := &load{}
	var list []byte
	for left := n; left > 0; left -= perList {
		events := int(min(left, perList))
		list = day.AppendList(list[:0], events, time.Now().UTC(), 100*time.Microsecond)
		l.add(list, events)
	}
	return l
}

// posted is what a client saw.
type posted struct {
	took     time.Duration // from the first POST to the last answer
	last     time.Time
	reposted int64
}

// post sends all of l at a rate over some connections. A POST whose connection
// breaks is sent again, as the API server does.
func (l *load) post(addr string, connections, rate int) (posted, error) {
	var next, reposted atomic.Int64
	var posting sync.WaitGroup
	errs := make([]error, connections)
	began := time.Now()
	var step time.Duration
	if rate != unlimited {
		step = time.Second * perList / time.Duration(rate)
	}
	for i := range connections {
		posting.Go(func() {
			c := &connection{addr: addr}
			defer c.close()
			for {
				n := next.Add(1) - 1
				if n >= int64(len(l.requests)) {
					return
				}
				time.Sleep(time.Until(began.Add(time.Duration(n) * step)))
				for try := 0; ; try++ {
					if errs[i] = c.send(l.requests[n]); errs[i] == nil {
						break
					}
					if try == 5 {
						return
					}
					reposted.Add(1)
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	posting.Wait()
	last := time.Now()
	return posted{last.Sub(began), last, reposted.Load()}, errors.Join(errs...)
}

// connection is HTTP/1.1 with as little as will do.
type connection struct {
	addr string
	conn net.Conn
	read *bufio.Reader
}

func (c *connection) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *connection) send(request []byte) (err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.addr); err != nil {
			c.conn = nil
			return err
		}
		c.read = bufio.NewReader(c.conn)
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.read, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("answered %s", response.Status)
	}
	if response.Close {
		c.close()
	}
	return nil
}
