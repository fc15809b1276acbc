# user wisp
# limit 600
# A package installed from a folder, without a network.
cd
mkdir tool app
echo '{"name": "tool", "version": "1.0.0", "bin": "tool.js"}' >tool/package.json
printf '#!/usr/bin/env node\nconsole.log("from the tool")\n' >tool/tool.js
chmod +x tool/tool.js
echo '{"name": "app", "version": "1.0.0", "scripts": {"job": "tool"}}' >app/package.json
cd app
npm install --offline --no-audit --no-fund ../tool
npm run --silent job | grep -q 'from the tool'
echo "npm $(npm --version)"
