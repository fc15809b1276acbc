# user wisp
# memory 1536
# limit 900
cd
mkdir job && cd job
cat >main.go <<'EOF'
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
)

func main() {
	var group sync.WaitGroup
	var lock sync.Mutex
	sum := 0
	for n := 0; n < 1000; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			lock.Lock()
			sum += n
			lock.Unlock()
		}(n)
	}
	group.Wait()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		panic(err)
	}
	go func() {
		c, _ := net.Dial("tcp", listener.Addr().String())
		fmt.Fprint(c, "hello")
		c.Close()
	}()
	c, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	hello := make([]byte, 5)
	c.Read(hello)
	file, _ := os.CreateTemp("", "job")
	if err := file.Sync(); err != nil {
		panic(err)
	}
	out, err := exec.Command("echo", "-n", "child").Output()
	if sum != 499500 || string(hello) != "hello" || string(out) != "child" || err != nil {
		panic("wrong")
	}
	fmt.Println("Go", runtime.Version())
}
EOF
cat >go.mod <<'EOF'
module job
EOF
CGO_ENABLED=0 go build -o job .
./job
