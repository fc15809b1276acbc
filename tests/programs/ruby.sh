cat >/tmp/job.rb <<'EOF'
require 'socket'
require 'tempfile'
sum = 10.times.map { |n| Thread.new { n * n } }.sum(&:value)
reader, writer = IO.pipe
pid = fork { writer.puts 'child'; exit 3 }
writer.close
text = reader.read
Process.wait(pid)
server = TCPServer.new('localhost', 0)
thread = Thread.new { server.accept.puts 'hello' }
hello = TCPSocket.new('localhost', server.addr[1]).gets
thread.join
Tempfile.create { |f| f.write 'data'; f.fsync }
abort 'wrong' unless sum == 285 && text == "child\n" && $?.exitstatus == 3 && hello == "hello\n" && Socket.gethostname == 'guest'
puts "Ruby #{RUBY_VERSION}"
EOF
ruby /tmp/job.rb
