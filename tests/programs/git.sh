# user wisp
cd
git config --global user.name wisp
git config --global user.email wisp@localhost
git init -q -b main one
cd one
for n in 1 2 3; do
	seq $((n * 100)) >file
	git add file
	git commit -q -m "commit $n"
done
git switch -q -c branch HEAD~1
echo other >other
git add other
git commit -q -m other
git merge -q -m merge main
git gc -q
git fsck
git clone -q . ../two
cd ../two
[ "$(git log --oneline | wc -l)" -eq 5 ] && [ "$(wc -l <file)" -eq 300 ]
git --version
