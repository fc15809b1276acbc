cat >/tmp/job.js <<'EOF'
const assert = require('assert'), fs = require('fs'), http = require('http'), os = require('os'), path = require('path');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { spawnSync, fork } = require('child_process');

if (process.argv[2] === 'child') {
	process.on('message', (n) => { process.send(n + 1); process.disconnect(); });
} else if (!isMainThread) {
	parentPort.postMessage(workerData * workerData);
} else {
	(async () => {
		const squares = await Promise.all([1, 2, 3].map((n) => new Promise((done, bad) =>
			new Worker(__filename, { workerData: n }).on('message', done).on('error', bad))));
		assert.deepStrictEqual(squares, [1, 4, 9]);
		assert.strictEqual(spawnSync('sh', ['-c', 'exit 3']).status, 3);
		const child = fork(__filename, ['child']);
		child.send(1);
		assert.strictEqual(await new Promise((done) => child.on('message', done)), 2);
		const file = path.join(os.tmpdir(), 'job');
		const watched = new Promise((done) => { const w = fs.watch(os.tmpdir(), () => { w.close(); done(); }); });
		const fd = fs.openSync(file, 'w');
		fs.writeSync(fd, 'data');
		fs.fsyncSync(fd);
		fs.closeSync(fd);
		await watched;
		const server = http.createServer((request, answer) => answer.end(request.url)).listen(0, 'localhost');
		await new Promise((done) => server.on('listening', done));
		const text = await new Promise((done) => http.get({ port: server.address().port, path: '/hello' },
			(answer) => answer.on('data', (data) => done(String(data)))));
		assert.strictEqual(text, '/hello');
		server.close();
		assert.strictEqual(os.hostname(), 'guest');
		console.log('Node.js', process.version);
	})().catch((error) => { console.error(error); process.exit(1); });
}
EOF
node /tmp/job.js
