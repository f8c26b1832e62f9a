return '/tmp/of-somebody-else'
